//! The mind of the framed client, told what happens: log-ins, answers, pushes, ends.

use chinwag::client::state::Question;
use chinwag::client::state::framed::{DISPLAY_MAX, Effect, Event, HEARTBEAT_EVERY, QUIET, State};
use chinwag::client::state::told::Told;
use chinwag::wire::time::Moment;

struct Mind {
    state: State,
    now: i64,
}

/// An effect in few words.
fn words(effect: Effect) -> String {
    match effect {
        Effect::Ask(question) => format!("ask {question:?}").to_lowercase(),
        Effect::Show(_, Told::Pushed { text, .. } | Told::Answer(text)) => format!("show {text}"),
        Effect::Show(_, Told::News(text)) => format!("news {text}"),
        Effect::Show(_, Told::Refused(text)) => format!("refuse {text}"),
        Effect::Show(_, Told::Said { .. }) => unreachable!("pushes are shown as they are"),
        Effect::Offer(offer) => format!("offer {}", offer.prompt),
        Effect::LogIn { name, password } => format!("log in {name} {password}"),
        Effect::Request(frame) => format!("request {frame}"),
        Effect::Dial(address, frame) => format!("dial {address} {frame}"),
        Effect::Took(push) => format!("took {push}"),
        Effect::End(end) => format!("end {} {}", end.code as u8, end.error),
    }
}

impl Mind {
    fn new(person: bool) -> Self {
        Self { state: State::new(person), now: 0 }
    }

    fn tell(&mut self, event: Event<'_>) -> Vec<String> {
        let mut effects = Vec::new();
        self.state.handle(Moment { elapsed: self.now, wall: self.now }, event, &mut effects);
        effects.into_iter().map(words).collect()
    }

    fn types(&mut self, line: &str) -> Vec<String> {
        self.tell(Event::Typed(Question::Line, line.as_bytes()))
    }

    fn answers(&mut self, frames: &[&str]) -> Vec<String> {
        self.tell(Event::Answered(Ok(frames.iter().map(|&frame| frame.to_owned()).collect())))
    }

    fn pushes(&mut self, push: u64, text: &str) -> Vec<String> {
        self.tell(Event::Pushed { push, from_server: true, text })
    }

    /// The time of the next deadline has come.
    fn tick(&mut self) -> Vec<String> {
        self.now = self.state.deadline().expect("something is due");
        self.tell(Event::Tick)
    }

    /// Hans, who has logged in.
    fn online(person: bool) -> Self {
        let mut mind = Self::new(person);
        assert_eq!(mind.tell(Event::Start), ["ask name"]);
        assert_eq!(mind.tell(Event::Typed(Question::Name, b"hans")), ["ask password"]);
        assert_eq!(mind.tell(Event::Typed(Question::Password, b"falcon")), ["log in hans falcon"]);
        let online = mind.answers(&["LOGIN_OKAY", "0abc"]);
        assert_eq!(online, ["show Welcome, hans! Type help for the commands", "offer hans> ", "ask line"]);
        mind
    }
}

#[test]
fn a_person_may_try_again_and_a_script_ends() {
    for (answer, said, code) in [
        ("LOGIN_FAILED|2", "Invalid name or password, tries left: 2", 4),
        ("JUST_PENNED|59.99991", "This name is blocked for 60 s", 5),
        ("PENNED|19.92", "This name is blocked for 20 s", 5),
    ] {
        for person in [true, false] {
            let mut mind = Mind::new(person);
            mind.tell(Event::Typed(Question::Name, b"hans"));
            mind.tell(Event::Typed(Question::Password, b"no"));
            let wanted = if person {
                vec![format!("refuse {said}"), "ask name".into()]
            } else {
                vec![format!("end {code} {said}")]
            };
            assert_eq!(mind.answers(&[answer]), wanted);
        }
    }
}

#[test]
fn a_log_in_that_cannot_be_had_ends_the_program() {
    let mut mind = Mind::new(true);
    mind.tell(Event::Typed(Question::Password, b"x"));
    let ended = mind.answers(&["LOGIN_OKAY", "0abc", "Error. You must listen elsewhere"]);
    assert_eq!(ended, ["end 4 You must listen elsewhere"]);
    assert_eq!(mind.types("message yoda hi"), [""; 0], "nothing happens any more");
    let mut mind = Mind::new(true);
    mind.tell(Event::Typed(Question::Password, b"x"));
    assert_eq!(mind.tell(Event::Answered(Err("refused".into()))), ["end 3 refused"]);
    let mut mind = Mind::new(true);
    mind.tell(Event::Typed(Question::Password, b"x"));
    assert!(mind.answers(&[])[0].starts_with("end 9 "));
}

#[test]
fn every_command_is_a_frame() {
    let mut mind = Mind::online(true);
    for (line, frame) in [
        ("message yoda a|b", "MSG|hans|0abc|yoda|a|b"),
        ("broadcast hi", "BRD|hans|0abc|hi"),
        ("online", "ONL|hans|0abc|"),
        ("block yoda", "BLC|hans|0abc|1|yoda"),
        ("unblock yoda", "BLC|hans|0abc|0|yoda"),
        ("getaddress yoda", "GET|hans|0abc|yoda"),
        ("allow yoda", "ALL|hans|0abc|yoda"),
        ("deny yoda", "DNY|hans|0abc|yoda"),
    ] {
        assert_eq!(mind.types(line), [format!("request {frame}"), "ask line".into()]);
    }
    assert_eq!(mind.types("groups"), ["refuse groups is for line clients: client <ip> <port>", "ask line"]);
    assert_eq!(mind.types("message yoda"), ["refuse Usage: message <user> <text>", "ask line"]);
    assert_eq!(mind.types("logout"), ["request OUT|hans|0abc|"]);
    for _ in 0..8 {
        mind.answers(&[]);
    }
    assert_eq!(mind.answers(&[]), ["end 0 "]);
}

#[test]
fn a_script_waits_for_the_server_and_then_for_its_answers() {
    let mut mind = Mind::online(false);
    assert_eq!(mind.types("online"), ["request ONL|hans|0abc|"]);
    assert_eq!(mind.answers(&[]), ["ask line"]);
    assert_eq!(mind.tell(Event::EndOfInput), [""; 0]);
    mind.now = 500;
    assert_eq!(mind.pushes(1, "Nobody else"), ["show Nobody else"]);
    assert_eq!(mind.tell(Event::Displayed(9)), ["took 1"]);
    assert_eq!(mind.state.deadline(), Some(500 + QUIET));
    assert_eq!(mind.tick(), ["request OUT|hans|0abc|"]);
    assert_eq!(mind.tell(Event::Answered(Err("gone".into()))), ["end 1 the server did not confirm the log-out"]);
}

#[test]
fn heartbeats_go_on_and_an_outage_is_told_once() {
    let mut mind = Mind::online(true);
    assert_eq!(mind.state.deadline(), Some(HEARTBEAT_EVERY));
    assert_eq!(mind.tick(), ["request HEY|hans|0abc|"]);
    let lost = mind.tell(Event::Answered(Err("refused".into())));
    assert_eq!(lost, ["news The server cannot be reached (refused), trying on"]);
    assert_eq!(mind.tick(), ["request HEY|hans|0abc|"]);
    assert_eq!(mind.tell(Event::Answered(Err("refused".into()))), [""; 0]);
    mind.types("message yoda hi");
    let unsent = mind.tell(Event::Answered(Err("refused".into())));
    assert_eq!(unsent, ["refuse Not sent, the server cannot be reached (refused)"]);
    assert_eq!(mind.tick(), ["request HEY|hans|0abc|"]);
    assert_eq!(mind.answers(&[]), ["news The server answers again"]);
    assert_eq!(mind.tick(), ["request HEY|hans|0abc|"]);
    let ended = mind.answers(&["Error. You are not logged in here, or not any longer"]);
    assert!(ended[0].starts_with("end 7 the server has ended this session"), "{ended:?}");
}

#[test]
fn a_push_has_arrived_when_it_is_shown_or_cannot_wait() {
    let mut mind = Mind::online(true);
    mind.now = 1_000;
    let shown = mind.pushes(1, "[yoda]: one\n\x1b[2Jtwo");
    assert_eq!(shown, ["show [yoda]: one", "show \u{241b}[2Jtwo", "offer hans> "]);
    assert_eq!(mind.pushes(2, "[yoda]: three"), ["show [yoda]: three"]);
    // The welcome was the first mark; the text of two lines is shown with the third.
    assert_eq!(mind.tell(Event::Displayed(2)), [""; 0]);
    assert_eq!(mind.tell(Event::Displayed(3)), ["took 1"]);
    assert_eq!(mind.state.deadline(), Some(1_000 + DISPLAY_MAX));
    assert_eq!(mind.tick(), ["took 2"]);
}

#[test]
fn what_the_server_pushes_may_end_the_program() {
    for (text, code) in [
        ("Logged in from another place", 6),
        ("Logged on different location!", 6),
        ("You timed out: nothing was heard from you for 30 s", 7),
        ("The server is stopping, goodbye", 10),
    ] {
        let mut mind = Mind::online(true);
        let ended = mind.pushes(1, text);
        assert_eq!(ended[..2], [format!("show {text}"), "took 1".into()]);
        assert!(ended[2].starts_with(&format!("end {code} ")), "{ended:?}");
        // Others cannot do that, and users' texts do not look like that.
        let mut mind = Mind::online(true);
        assert_eq!(mind.tell(Event::Pushed { push: 1, from_server: false, text }), [""; 0]);
        let shown = mind.pushes(2, &format!("[yoda]: {text}"));
        assert_eq!(shown, [format!("show [yoda]: {text}"), "offer hans> ".into()]);
    }
}

#[test]
fn private_texts_go_to_the_address_that_the_server_gave() {
    let mut mind = Mind::online(true);
    let unknown = ["refuse The address of yoda is not known, use getaddress first", "ask line"];
    assert_eq!(mind.types("private yoda hi"), unknown);
    let forged = "ADR|yoda|192.0.2.7|1";
    assert_eq!(mind.tell(Event::Pushed { push: 1, from_server: false, text: forged }), [""; 0]);
    assert_eq!(mind.types("private yoda hi"), unknown);
    let learnt = mind.pushes(2, "ADR|yoda|127.0.0.1|5001");
    assert_eq!(learnt, ["show You may write to yoda privately: private yoda <text>"]);
    assert_eq!(mind.types("private yoda a|b"), ["dial 127.0.0.1:5001 <hans>: a|b", "ask line"]);
    assert_eq!(mind.tell(Event::Dialled(Ok(()))), [""; 0]);
    mind.types("private yoda again");
    let gone = mind.tell(Event::Dialled(Err("refused".into())));
    assert_eq!(gone, ["refuse yoda is no longer there, use message"]);
    // From elsewhere, only what looks like a private text is shown.
    let elsewhere = |text| Event::Pushed { push: 3, from_server: false, text };
    assert_eq!(mind.tell(elsewhere("<yoda>: psst")), ["show <yoda>: psst"]);
    assert_eq!(mind.tell(elsewhere("[yoda]: as if by the server")), [""; 0]);
}

#[test]
fn leaving_waits_for_the_server_but_not_for_ever() {
    let mut mind = Mind::online(true);
    assert_eq!(mind.tell(Event::Leave), ["request OUT|hans|0abc|"]);
    assert_eq!(mind.tick(), ["end 130 the server did not confirm the log-out"]);
    let mut mind = Mind::online(true);
    mind.tell(Event::Leave);
    assert_eq!(mind.answers(&[]), ["end 0 "]);
    let mut mind = Mind::new(true);
    mind.tell(Event::Start);
    assert_eq!(mind.tell(Event::Leave), ["end 130 interrupted"]);
    let mut mind = Mind::new(false);
    mind.tell(Event::Start);
    assert_eq!(mind.tell(Event::EndOfInput), ["end 1 the input ended before the log-in"]);
}
