//! Somebody is asked for a password, or nobody is there to ask.

use rustix::process::{Signal, kill_process};

use crate::terminal::Terminal;
use crate::world::World;

const QUESTION: &str = "password of ";
const AGAIN: &str = "password for the new repository again: ";

/// A world with the repository `r` whose password is `right`.
fn with_password() -> World {
    let world = World::new();
    world.write("password", b"right\n");
    world.ok(&["init", "-r", "r", "--password-file", "password"]);
    world
}

/// What the screen shows, without what this test typed nowhere.
fn asked(world: &World, typed: &str) -> (Option<i32>, String) {
    let mut terminal = Terminal::run(world, &["-r", "r", "snapshots"]);
    terminal.wait_for(QUESTION);
    assert!(!terminal.echoes(), "what is typed would be shown");
    terminal.type_in(typed);
    terminal.end()
}

#[test]
fn the_right_password_opens_and_is_not_shown() {
    let (code, screen) = asked(&with_password(), "right\n");
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("right"), "{screen}");
}

#[test]
fn what_was_mistyped_can_be_taken_back() {
    let (code, screen) = asked(&with_password(), "wrong\u{15}rihgt\u{7f}\u{7f}\u{7f}ght\n");
    assert_eq!(code, Some(0), "{screen}");
}

#[test]
fn a_wrong_password_is_12_and_an_empty_one_2() {
    let world = with_password();
    let (code, screen) = asked(&world, "wrong\n");
    assert_eq!(code, Some(12), "{screen}");
    assert!(screen.contains("wrong password") && !screen.contains("wrong\n"), "{screen}");
    let (code, screen) = asked(&world, "\n");
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("the password is empty"), "{screen}");
    let (code, screen) = asked(&world, "\u{4}");
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("nothing was typed"), "{screen}");
}

#[test]
fn who_is_asked_can_leave_and_the_terminal_shows_again_what_is_typed() {
    let world = with_password();
    let (code, screen) = asked(&world, "rig\u{3}");
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("the run was interrupted"), "{screen}");
    for signal in [Signal::TERM, Signal::INT] {
        let mut terminal = Terminal::run(&world, &["-r", "r", "snapshots"]);
        terminal.wait_for(QUESTION);
        kill_process(terminal.pid(), signal).unwrap();
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(130), "{signal:?}: {screen}");
    }
}

#[test]
fn a_new_password_is_asked_for_twice() {
    let world = World::new();
    let answers = [("one\n", "two\n", Some(2)), ("one\n", "one\n", Some(0))];
    for (first, second, expected) in answers {
        let mut terminal = Terminal::run(&world, &["-r", "r", "init"]);
        terminal.wait_for("password for the new repository: ");
        terminal.type_in(first);
        terminal.wait_for(AGAIN);
        terminal.type_in(second);
        let (code, screen) = terminal.end();
        assert_eq!(code, expected, "{screen}");
        assert_eq!(world.path("r/config").exists(), expected == Some(0), "{screen}");
    }
    world.write("password", b"one\n");
    world.ok(&["-r", "r", "snapshots", "--password-file", "password"]);
}

#[test]
fn without_a_terminal_nobody_is_asked_and_the_way_out_is_named() {
    let world = with_password();
    world.check("no_terminal", &world.run(&["-r", "r", "snapshots"]));
}
