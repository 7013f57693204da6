//! Zones: where a volume can be reached.

use tonic::Status;

use crate::answer::Answer;
use crate::wire::csi::{Topology, TopologyRequirement};

/// The label by which nodes of a driver tell their zone.
pub(crate) fn key(driver: &str) -> String {
    format!("topology.{driver}/zone")
}

/// A zone as the protocol has it; none is everywhere.
pub(crate) fn told(driver: &str, zone: Option<&str>) -> Vec<Topology> {
    let segments = |zone: &str| [(key(driver), zone.to_owned())].into();
    zone.map(|zone| Topology { segments: segments(zone) }).into_iter().collect()
}

/// The zone of a new volume: the best of those asked for, and that of its source if it has one.
pub(crate) fn choose(
    driver: &str,
    asked: Option<&TopologyRequirement>,
    source: Option<&str>,
) -> Answer<Option<String>> {
    let lists = asked.map(|asked| [&asked.preferred[..], &asked.requisite[..]].concat());
    let Some(lists) = lists.filter(|lists| !lists.is_empty()) else {
        return Ok(source.map(str::to_owned));
    };
    let key = key(driver);
    let mut zones = lists.iter().filter_map(|topology| topology.segments.get(&key));
    let found = match source {
        Some(source) => zones.find(|zone| *zone == source),
        None => zones.next(),
    };
    let none = || {
        let what = source.map_or("no zone".into(), |zone| format!("not the source's zone {zone}"));
        Status::resource_exhausted(format!("the topology that is asked for has {what} of {key}"))
    };
    found.cloned().map(Some).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(zone: &str) -> Topology {
        told("d", Some(zone)).remove(0)
    }

    fn asked(requisite: &[&str], preferred: &[&str]) -> TopologyRequirement {
        let all = |zones: &[&str]| zones.iter().map(|zone| topology(zone)).collect();
        TopologyRequirement { requisite: all(requisite), preferred: all(preferred) }
    }

    #[test]
    fn the_preferred_zone_is_taken_and_a_source_keeps_its_own() {
        let both = asked(&["a", "b"], &["b", "a"]);
        assert_eq!(choose("d", Some(&both), None).unwrap().as_deref(), Some("b"));
        assert_eq!(choose("d", Some(&both), Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(choose("d", Some(&asked(&["a"], &[])), None).unwrap().as_deref(), Some("a"));
        assert_eq!(choose("d", None, Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(choose("d", None, None).unwrap(), None);
    }

    #[test]
    fn a_zone_that_cannot_be_is_refused() {
        let only = asked(&["b"], &["b"]);
        let refusal = choose("d", Some(&only), Some("a")).unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
        let refusal = choose("other", Some(&only), None).unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
    }
}
