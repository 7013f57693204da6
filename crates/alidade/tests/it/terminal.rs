//! A terminal with the binary at it, and somebody who types.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::world::World;

/// Longer than anything takes on a busy machine.
const PATIENCE: i64 = 60;

pub(crate) struct Terminal {
    /// The side of the person.
    person: File,
    /// The side of programs, kept open so that it can be asked how it was left.
    programs: File,
    child: Child,
    shown: String,
}

impl Terminal {
    /// Starts the binary with a terminal of its own for all three streams.
    pub(crate) fn run(world: &World, arguments: &[&str]) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let person = File::from(person.unwrap());
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let programs = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(OsStr::from_bytes(name.as_bytes()))
            .unwrap();
        let stream = || Stdio::from(programs.try_clone().unwrap());
        let binary = world.command(arguments);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(binary.get_program())
            .args(binary.get_args())
            .env_clear()
            .envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(binary.get_current_dir().unwrap())
            .stdin(stream())
            .stdout(stream())
            .stderr(stream());
        let child = command.spawn().unwrap();
        Self { person, programs, child, shown: String::new() }
    }

    /// Waits until the screen shows that text behind what was waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let from = self.shown.len();
        while !self.shown[from..].contains(text) {
            assert!(self.read(PATIENCE), "no `{text}` in {}", self.shown);
        }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.programs).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits for the end: the exit code, and the whole screen. The terminal must be as it was.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        while self.read(0) {}
        assert!(self.echoes(), "the terminal stays silent: {}", self.shown);
        (code, self.shown.replace("\r\n", "\n"))
    }

    /// Reads what is shown next; false when nothing is for so many seconds.
    fn read(&mut self, seconds: i64) -> bool {
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.person, PollFlags::IN)], Some(&time)).unwrap() == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        let read = self.person.read(&mut bytes).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read > 0
    }
}
