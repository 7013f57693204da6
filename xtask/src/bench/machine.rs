//! The machine that figures come from.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What of a machine decides how fast it is, without saying whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: u64,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("read the kernel's version")?;
        let kib: u64 = value(&memory, "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .context("find MemTotal in /proc/meminfo")?;
        Ok(Self {
            cpu: model(&cpu),
            cores: cpu.lines().filter(|line| line.starts_with("processor")).count() as u64,
            // What the firmware keeps is missing from the total.
            memory_gib: kib.div_ceil(1 << 20),
            kernel: kernel.trim().to_owned(),
        })
    }

    /// The name of the folder for its rounds.
    pub(super) fn slug(&self) -> String {
        let mut slug = String::new();
        let text = format!("{} {} cores {} GiB", self.cpu, self.cores, self.memory_gib);
        for c in text.to_lowercase().replace("(r)", "").chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.trim_matches('-').to_owned()
    }

    #[cfg(test)]
    pub(super) fn sample() -> Self {
        Self {
            cpu: "Intel(R) Xeon(R) Processor, family 6, model 207".to_owned(),
            cores: 2,
            memory_gib: 24,
            kernel: "6.18.0".to_owned(),
        }
    }
}

/// The CPU's name; virtual machines hide it, so that family and model stand beside it.
fn model(cpuinfo: &str) -> String {
    let field = |name| value(cpuinfo, name).unwrap_or("unknown");
    format!("{}, family {}, model {}", field("model name"), field("cpu family"), field("model"))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_by_what_makes_it_fast() {
        assert_eq!(
            Machine::sample().slug(),
            "intel-xeon-processor-family-6-model-207-2-cores-24-gib"
        );
        let this = Machine::this().unwrap();
        assert!(this.cores > 0 && this.memory_gib > 0 && !this.kernel.is_empty());
    }

    #[test]
    fn the_model_is_read_beside_the_name_that_begins_like_it() {
        let text = "cpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some CPU\n";
        assert_eq!(model(text), "Some CPU, family 6, model 207");
    }
}
