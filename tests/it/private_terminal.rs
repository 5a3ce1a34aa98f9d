//! Private sessions on real pseudo terminals: two persons, each of whom is typing when the other
//! begins, talks, asks, stops or is gone.

use std::io::Write;

use chinwag::clock::Clock;
use rustix::process::Signal;

use crate::client::ACCOUNTS;
use crate::client_terminal::{CTRL_C, EDITOR_LEFT, Terminal, read_until, yoda};
use crate::programs::{House, Server};

/// The end of a session is to be told within a second; a loaded machine has ten.
const TOLD_MAX: i64 = 10_000;

/// Nothing but the lines themselves.
const PLAIN: [&str; 2] = ["--no-times", "--color=never"];

/// hans or luke at a terminal of his own.
fn person(house: &House, server: &Server, name: &str) -> Terminal {
    let account = ACCOUNTS.lines().find(|line| line.starts_with(name)).expect("an account");
    let port = server.port().to_string();
    let mut terminal = Terminal::logged_in_as(&house.folder, &[&port, PLAIN[0], PLAIN[1]], account);
    // The server knows where others can connect.
    terminal.enter("block nobody");
    terminal.wait_for("Error. Invalid user nobody");
    terminal.wait_for("> ");
    terminal
}

fn both(house: &House, server: &Server) -> (Terminal, Terminal) {
    let luke = person(house, server, "luke");
    (person(house, server, "hans"), luke)
}

impl Terminal {
    fn enter(&mut self, line: &str) {
        self.type_in(&format!("{line}\r"));
    }

    /// Types the beginning of a line, which is on the screen then.
    fn begin(&mut self, keys: &str) {
        self.type_in(keys);
        self.wait_for_screen(&format!("> {keys}"));
    }
}

#[test]
fn both_talk_while_both_are_typing() {
    let (house, clock) = (House::new(ACCOUNTS), Clock::start());
    let server = house.serve(&[]);
    let (mut hans, mut luke) = both(&house, &server);
    luke.begin("private hans half a li");
    hans.enter("startprivate luke");
    hans.wait_for_screen("> startprivate luke\nPrivate session with luke started\n>");
    luke.wait_for_screen("hans started a private session with you\n> private hans half a li");
    hans.enter("private luke are you there?");
    luke.wait_for_screen("hans(private): are you there?\n> private hans half a li");
    // Names of those with whom there is a session are completed.
    hans.begin("private l");
    hans.type_in("\tand mi");
    hans.wait_for_screen("> private luke and mi");
    luke.enter("ne");
    hans.wait_for_screen("luke(private): half a line\n> private luke and mi");
    hans.enter("ne");
    luke.wait_for_screen("hans(private): and mine\n>");
    // luke stops what hans has begun, and begins himself.
    hans.begin("private luke too la");
    luke.enter("stopprivate hans");
    luke.wait_for_screen("> stopprivate hans\nPrivate session with hans ended (stopped)\n>");
    hans.wait_for_screen("Private session with luke ended (stopped)\n> private luke too la");
    hans.enter("te");
    hans.wait_for_screen("> private luke too late\nError. No private session with luke, use startprivate\n>");
    hans.begin("private luke it is ");
    luke.enter("startprivate hans");
    hans.wait_for_screen("luke started a private session with you\n> private luke it is ");
    hans.enter("on");
    luke.wait_for_screen("Private session with hans started\nhans(private): it is on\n>");
    // A block comes later and cuts nothing.
    luke.enter("block hans");
    luke.wait_for("hans is blocked");
    hans.enter("private luke still?");
    luke.wait_for("hans(private): still?");
    luke.enter("unblock hans");
    luke.wait_for("hans is unblocked");
    // hans is killed as nothing else can kill: luke is told at once, over his line.
    luke.begin("private hans what is t");
    let since = clock.now().elapsed;
    hans.signal(Signal::KILL);
    luke.wait_for("Private session with hans ended (gone)");
    let took = clock.now().elapsed - since;
    println!("told after {took} ms");
    assert!(took < TOLD_MAX, "{took} ms");
    luke.wait_for_screen("> private hans what is t");
    luke.enter("hat?");
    luke.wait_for("Error. No private session with hans, use startprivate");
    luke.enter("logout");
    luke.end(0);
}

#[test]
fn a_log_out_and_a_time_out_end_a_session_and_talk_keeps_who_talks() {
    let house = House::new(ACCOUNTS);
    let server = house.serve_timed("3", &[]);
    let (mut hans, mut luke) = both(&house, &server);
    hans.enter("startprivate luke");
    hans.wait_for("Private session with luke started");
    hans.enter("logout");
    hans.wait_for("Goodbye");
    hans.end(0);
    luke.wait_for("Private session with hans ended (stopped)");

    let mut hans = person(&house, &server, "hans");
    luke.enter("startprivate hans");
    hans.wait_for("luke started a private session with you");
    // hans only listens, while he is typing a line that he does not end.
    hans.begin("half a li");
    let pace = crossbeam_channel::tick(std::time::Duration::from_millis(250));
    for number in 0.. {
        pace.recv().expect("it ticks on");
        assert!(number < 100, "nobody is timed out");
        luke.enter(&format!("private hans number {number}"));
        luke.wait_for("> ");
        if luke.shown.contains("Private session with hans ended (stopped)") {
            break;
        }
    }
    hans.wait_for("You timed out: no command for 3 s");
    hans.end(7);
    luke.enter("whoelse");
    luke.wait_for("Nobody else");
    luke.enter("logout");
    luke.end(0);
}

#[test]
fn with_ask_private_the_other_says_yes_or_no() {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&["--ask-private"]);
    let (mut hans, mut luke) = both(&house, &server);
    let question = "hans wants a private session with you, type: allow hans or deny hans";
    luke.begin("deny ");
    hans.enter("startprivate luke");
    hans.wait_for_screen("> startprivate luke\nRequest sent to luke\n>");
    luke.wait_for_screen(&format!("{question}\n> deny "));
    hans.begin("whoe");
    luke.enter("hans");
    luke.wait_for("hans is told that you decline");
    hans.wait_for_screen("luke declined\n> whoe");
    hans.enter("lse");
    hans.wait_for("luke");
    luke.enter("deny hans");
    luke.wait_for("Error. No request from hans");
    luke.begin("allow ");
    hans.enter("startprivate luke");
    luke.wait_for_screen(&format!("{question}\n> allow "));
    hans.wait_for("Request sent to luke");
    hans.begin("private luke it is ");
    luke.enter("hans");
    hans.wait_for_screen("Private session with luke started\n> private luke it is ");
    hans.enter("on");
    luke.wait_for("hans is told that you agree");
    luke.wait_for("hans started a private session with you");
    luke.wait_for("hans(private): it is on");
}

#[test]
fn an_address_is_asked_for_once_and_follows_whoever_has_it() {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&[]);
    let (mut hans, mut luke) = both(&house, &server);
    let question = "hans wants your address, type: allow hans or deny hans";
    let allowed = "You may write to luke privately, type: private luke <text>";
    hans.enter("private luke no");
    hans.wait_for("Error. No private session with luke, use startprivate");
    luke.begin("allow ha");
    hans.enter("getaddress luke");
    hans.wait_for("Request sent to luke");
    luke.wait_for_screen(&format!("{question}\n> allow ha"));
    luke.enter("ns");
    luke.wait_for("hans is told that you agree");
    hans.wait_for(allowed);
    // Once more: nobody is asked. What luke is told next is not a question.
    hans.enter("getaddress luke");
    hans.wait_for("> ");
    hans.enter("message luke fence");
    let before = luke.wait_for("hans: fence");
    assert!(!before.contains("wants"), "{before:?}");
    // luke leaves and comes back elsewhere: hans is told where, without asking.
    luke.enter("logout");
    luke.end(0);
    hans.wait_for("luke logged out");
    hans.begin("private luke welcome ");
    let mut luke = person(&house, &server, "luke");
    hans.wait_for_screen(&format!("luke logged in\n{allowed}\n> private luke welcome "));
    hans.enter("back");
    luke.wait_for("hans(private): welcome back");
    luke.enter("stopprivate hans");
    hans.wait_for("Private session with luke ended (stopped)");
    // A block ends it; after that he is asked again.
    for command in ["block hans", "unblock hans"] {
        luke.enter(command);
        luke.wait_for(&format!("hans is {}ed", command.trim_end_matches(" hans")));
    }
    hans.enter("getaddress luke");
    hans.wait_for("Request sent to luke");
    luke.wait_for(question);
    luke.enter("block hans");
    luke.wait_for("hans is blocked");
    hans.enter("getaddress luke");
    hans.wait_for("Error. luke cannot be found");
}

#[test]
fn netcat_and_who_wants_to_talk_to_it_are_told() {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&[]);
    let mut hans = person(&house, &server, "hans");
    let mut netcat = yoda(&server);
    hans.wait_for("yoda logged in");
    hans.begin("startpri");
    for command in ["startprivate hans", "private hans hi", "stopprivate hans", "getaddress hans", "allow hans"] {
        netcat.write_all(format!("{command}\n").as_bytes()).expect("it listens");
        let word = command.split(' ').next().expect("a word");
        read_until(&mut netcat, &format!("Error. {word} needs the client program"));
    }
    hans.enter("vate yoda");
    hans.wait_for("Error. yoda cannot take private connections (he is not using the client program)");
    hans.enter("getaddress yoda");
    hans.wait_for("Error. yoda cannot be found");
    hans.wait_for("> ");
    // Nothing of what yoda tried was seen here.
    hans.wait_for_screen("Error. yoda cannot be found\n>");
    hans.type_in("x");
    hans.wait_for("x");
    hans.type_in(CTRL_C);
    hans.wait_for(EDITOR_LEFT);
    hans.wait_for("> ");
    hans.enter("logout");
    hans.end(0);
}
