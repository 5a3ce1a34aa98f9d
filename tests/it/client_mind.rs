//! The mind of the client, played with the lines of a scripted server: no socket, no waiting.

use chinwag::client::state::{
    Effect, Errand, Event, FAREWELL_MAX, OUTAGE_MAX, PAUSES, PENDING_MAX, PING_EVERY, Question, Rules, SILENCE_MAX,
    Shown, State, TYPED_BYTES_MAX,
};
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;
use jiff::tz::TimeZone;

/// A client and its clock; what follows from an event comes back as lines.
struct Mind {
    state: State,
    now: i64,
}

impl Mind {
    fn new(rules: Rules) -> Self {
        Self { state: State::new(rules, Moment { elapsed: 0, wall: 0 }), now: 0 }
    }

    fn piped() -> Self {
        Self::new(Rules { person: false, reconnect: true, errand: None })
    }

    fn typing() -> Self {
        Self::new(Rules { person: true, reconnect: true, errand: None })
    }

    fn tell(&mut self, event: Event<'_>) -> Vec<String> {
        let mut effects = Vec::new();
        self.state.handle(Moment { elapsed: self.now, wall: self.now }, event, &mut effects);
        effects.iter().map(spell).collect()
    }

    fn hear(&mut self, line: &str) -> Vec<String> {
        self.tell(Event::Line(line.as_bytes()))
    }

    fn type_in(&mut self, question: Question, line: &str) -> Vec<String> {
        self.tell(Event::Typed(question, line.as_bytes()))
    }

    fn line(&mut self, line: &str) -> Vec<String> {
        self.type_in(Question::Line, line)
    }

    /// Lets time pass until the next deadline, which must be `millis` away.
    fn wait(&mut self, millis: i64) -> Vec<String> {
        assert_eq!(self.state.deadline(), Some(self.now + millis));
        self.now += millis;
        self.tell(Event::Tick)
    }

    /// From nothing to `ask name` of the server with this store.
    fn meet(&mut self, store: &str) -> Vec<String> {
        self.tell(Event::Connected);
        self.hear(&format!("Username: hello chinwag/1 {store}"));
        self.hear("ask name")
    }

    /// Logs hans in, to whom everything up to `shown` has been shown.
    fn log_in(mut self, shown: u64) -> Self {
        self.tell(Event::Start);
        assert_eq!(self.meet("S"), ["ask Name"]);
        assert_eq!(self.type_in(Question::Name, "hans falcon"), ["recall S hans"]);
        assert_eq!(self.tell(Event::Recalled(shown)), [format!("send LOGIN hans {shown}")]);
        assert_eq!(self.hear("ask password"), ["send falcon"]);
        let seen = self.hear(&format!("welcome hans 5 {:032x}", 0xa));
        assert_eq!(seen[..2], ["nobody present", "show Welcome to chinwag, hans! Type help for the commands"]);
        self
    }

    /// Loses the link and gets it back: what follows the new welcome.
    fn resume(&mut self, shown: u64) -> Vec<String> {
        self.tell(Event::Lost("reset".to_owned()));
        self.wait(PAUSES.0);
        assert_eq!(self.meet("S"), ["recall S hans"]);
        assert_eq!(self.tell(Event::Recalled(shown)), [format!("send RESUME hans {:032x} {shown}", 0xa)]);
        self.hear(&format!("welcome hans 6 {:032x}", 0xb))
    }
}

fn spell(effect: &Effect) -> String {
    match effect {
        Effect::Connect => "connect".to_owned(),
        Effect::Disconnect => "disconnect".to_owned(),
        Effect::Send(line) => format!("send {line}"),
        Effect::Recall(reader) => format!("recall {} {}", reader.store, reader.user),
        Effect::Remember(reader, number) => format!("remember {} {} {number}", reader.store, reader.user),
        Effect::Ask(question) => format!("ask {question:?}"),
        Effect::Show(_, Shown::Notice(notice, _)) => {
            let mut bytes = Vec::new();
            Speller::new(TimeZone::UTC).spell(notice, &mut bytes);
            format!("show {}", String::from_utf8_lossy(&bytes).trim_end())
        }
        Effect::Show(_, other) => format!("show {other:?}"),
        Effect::Present(user, here) => format!("present {user} {here}"),
        Effect::NobodyPresent => "nobody present".to_owned(),
        Effect::End(end) => format!("end {}", end.code as u8),
    }
}

fn said(number: u64, text: &str) -> String {
    format!("said {number} live 0 yoda {text}")
}

fn only<'a>(seen: &'a [String], begin: &str) -> Vec<&'a str> {
    seen.iter().filter_map(|line| line.strip_prefix(begin)).collect()
}

#[test]
fn a_log_in_on_a_terminal_asks_again_until_it_is_right() {
    let mut mind = Mind::typing();
    assert_eq!(mind.tell(Event::Start), ["connect"]);
    assert_eq!(mind.tell(Event::Connected), ["send HELLO chinwag/1 line"]);
    assert_eq!(mind.hear("Username: hello chinwag/1 S"), [""; 0]);
    assert_eq!(mind.hear("ask name"), ["ask Name"]);
    assert_eq!(mind.type_in(Question::Name, "  "), ["ask Name"]);
    assert_eq!(mind.type_in(Question::Name, "obi"), ["recall S obi"]);
    assert_eq!(mind.tell(Event::Recalled(0)), ["send LOGIN obi 0"]);
    assert_eq!(mind.hear("refused unknown-user"), ["show Error. Unknown user"]);
    assert_eq!(mind.hear("ask name"), ["ask Name"]);
    mind.type_in(Question::Name, " hans ");
    assert_eq!(mind.tell(Event::Recalled(7)), ["send LOGIN hans 7"]);
    assert_eq!(mind.hear("ask password"), ["ask Password"]);
    assert_eq!(mind.type_in(Question::Password, ""), ["ask Password"]);
    assert_eq!(mind.type_in(Question::Password, "two words"), ["send two words"]);
    assert_eq!(mind.hear("wrong-password 2"), ["show Invalid password, 2 tries left"]);
    assert_eq!(mind.hear("ask password"), ["ask Password"]);
    mind.type_in(Question::Password, "falcon");
    let seen = mind.hear("welcome hans 5 0a");
    assert_eq!(seen.last().map(String::as_str), Some("ask Line"), "one line at a time");
    assert_eq!(mind.line("whoelse"), ["send #5.1 whoelse", "ask Line"]);
    assert_eq!(mind.hear("nobody"), ["nobody present", "show Nobody else"]);
    assert_eq!(mind.hear("done 5.1"), ["show Done(1)"]);
}

#[test]
fn in_a_pipe_the_lines_are_what_is_needed() {
    let mut mind = Mind::piped().log_in(0);
    // As many lines as may be without an answer were asked for at the welcome; one more per answer.
    for number in 1..=PENDING_MAX {
        assert_eq!(mind.line("whoelse"), [format!("send #5.{number} whoelse")]);
    }
    mind.hear("nobody");
    assert_eq!(mind.hear("done 5.1"), ["show Done(1)", "ask Line"]);
    assert_eq!(mind.line(" \t"), ["ask Line"], "blanks are nothing");
    let long = "x".repeat(TYPED_BYTES_MAX + 1);
    let refused = format!("show Error. The line is too long (over {TYPED_BYTES_MAX} bytes), dropped");
    assert_eq!(mind.line(&long), [refused, "ask Line".to_owned()]);
    let seen = mind.tell(Event::Typed(Question::Line, b"\xc3("));
    assert_eq!(seen, ["show Error. The line is not UTF-8 text, dropped", "ask Line"]);
    assert_eq!(mind.line(&long[1..]), [format!("send #5.65 {}", &long[1..])]);
}

#[test]
fn the_end_of_a_pipe_waits_for_every_answer() {
    let mut mind = Mind::piped().log_in(0);
    mind.line("whoelse");
    assert_eq!(mind.tell(Event::EndOfInput), [""; 0]);
    mind.hear("nobody");
    assert_eq!(mind.hear("done 5.1"), ["show Done(1)", "send PING"]);
    // What waited for us comes before the answer to the ping, and is confirmed before we leave.
    mind.hear(&said(8, "a"));
    assert_eq!(mind.hear("pong"), [""; 0]);
    assert_eq!(mind.tell(Event::Displayed(9)), ["remember S hans 8", "send SEEN 8", "send #5.2 logout"]);
    assert_eq!(mind.hear("goodbye"), ["show Goodbye", "end 0"]);
    assert_eq!(mind.tell(Event::Lost("closed".into())), [""; 0], "nothing follows the end");
}

#[test]
fn a_receipt_that_waited_is_confirmed_when_it_was_displayed() {
    let mut mind = Mind::typing().log_in(0);
    let shown = "show [seen by luke 01/01/70 00:00:02: 3 messages, the last of 01/01/70 00:00:01]";
    assert_eq!(mind.hear("seen-meanwhile luke 3 1000 2000"), [shown]);
    assert_eq!(mind.hear("seen-meanwhile yoda 1 1000 2000").len(), 1);
    assert_eq!(mind.tell(Event::Displayed(2)), ["send TOLD luke"], "the welcome is the first mark");
    // Over a dead link nothing is said; the server tells of it again.
    mind.tell(Event::Lost("reset".to_owned()));
    assert_eq!(mind.tell(Event::Displayed(3)), [""; 0]);
}

#[test]
fn input_that_ends_before_the_log_in_is_an_error_in_a_pipe() {
    for (typed, answer, code) in [
        (None, "ask name", "end 1"),
        (Some("hans"), "ask password", "end 1"),
        (Some("hans falcon"), "welcome hans 1 0a", "send PING"),
    ] {
        let mut mind = Mind::piped();
        mind.tell(Event::Start);
        mind.meet("S");
        if let Some(line) = typed {
            mind.type_in(Question::Line, line);
            mind.tell(Event::Recalled(0));
            mind.tell(Event::EndOfInput);
        }
        if typed == Some("hans falcon") {
            mind.hear("ask password");
        }
        let seen = if typed.is_none() { mind.tell(Event::EndOfInput) } else { mind.hear(answer) };
        assert_eq!(seen.last().map(String::as_str), Some(code), "{typed:?}");
    }
    let mut mind = Mind::piped();
    mind.meet("S");
    mind.type_in(Question::Name, "hans wrong");
    mind.tell(Event::Recalled(0));
    mind.tell(Event::EndOfInput);
    mind.hear("ask password");
    mind.hear("wrong-password 2");
    assert_eq!(mind.hear("ask password"), ["end 4"]);
}

#[test]
fn every_end_has_its_exit_code() {
    let at_log_in = [
        ("too-many-names", 4),
        ("locked 60", 5),
        ("locked 0", 5),
        ("still-locked 9", 5),
        ("already-online hans 0", 6),
        ("login-timed-out", 7),
        ("full", 1),
        ("crowded", 1),
        ("stopping", 10),
        ("what is this", 9),
    ];
    for (line, code) in at_log_in {
        let mut mind = Mind::piped();
        mind.meet("S");
        assert_eq!(mind.hear(line).last(), Some(&format!("end {code}")), "{line}");
    }
    for (line, code) in
        [("goodbye", 0), ("timed-out 120", 7), ("stopping", 10), ("too-slow", 1), ("ask name", 9), ("nonsense", 9)]
    {
        let mut mind = Mind::piped().log_in(0);
        assert_eq!(mind.hear(line).last(), Some(&format!("end {code}")), "{line}");
    }
    let mut mind = Mind::piped();
    mind.tell(Event::Start);
    assert_eq!(mind.tell(Event::NotConnected("refused".into())), ["end 3"]);
    for first in ["SSH-2.0-OpenSSH", "HTTP/1.1 400 Bad Request", "Username: hello chinwag/2 S"] {
        let mut mind = Mind::piped();
        mind.tell(Event::Connected);
        assert_eq!(mind.hear(first), ["end 9"], "{first}");
    }
    let mut mind = Mind::piped();
    mind.tell(Event::Connected);
    assert_eq!(mind.tell(Event::Lost("closed".into())), ["end 9"]);
    let mut mind = Mind::piped();
    mind.tell(Event::Connected);
    // A server that is full does not wait for a greeting: it speaks as to netcat.
    assert_eq!(mind.hear("Username: "), [""; 0]);
    let full = "Error. The server is full, try again later";
    assert_eq!(mind.hear(full), [format!("show {full}"), "end 1".to_owned()]);
    let mut mind = Mind::piped().log_in(0);
    assert_eq!(mind.tell(Event::OutputClosed(None)), ["end 0"]);
    let mut mind = Mind::piped().log_in(0);
    assert_eq!(mind.tell(Event::OutputClosed(Some("no space".into()))), ["end 1"]);
}

#[test]
fn a_message_is_shown_once_and_confirmed_after_it_was_displayed() {
    let mut mind = Mind::typing().log_in(7);
    assert_eq!(mind.hear(&said(7, "old")), ["present yoda true"], "an earlier run has shown it");
    // The welcome had mark 1.
    assert_eq!(mind.hear(&said(8, "a")), ["show yoda: a"]);
    assert_eq!(mind.hear(&said(9, "b")), ["show yoda: b"]);
    assert_eq!(mind.hear(&said(10, "c")), ["show yoda: c"]);
    assert_eq!(mind.tell(Event::Displayed(1)), [""; 0]);
    assert_eq!(mind.tell(Event::Displayed(3)), ["remember S hans 9", "send SEEN 9"], "kept before it is confirmed");
    // 10 is on its way to the screen when the link dies: the server repeats it, we do not.
    assert_eq!(only(&mind.resume(9), "send "), [""; 0]);
    assert_eq!(mind.hear(&said(10, "c")), ["present yoda true"]);
    assert_eq!(mind.hear(&said(11, "d")), ["show yoda: d"]);
    assert_eq!(only(&mind.tell(Event::Displayed(9)), "send SEEN "), ["11"]);
}

#[test]
fn what_is_displayed_while_the_link_is_down_is_kept_and_told_at_the_resumption() {
    let mut mind = Mind::piped().log_in(0);
    mind.hear(&said(8, "a"));
    mind.tell(Event::Lost("reset".into()));
    assert_eq!(mind.tell(Event::Displayed(2)), ["remember S hans 8"]);
    mind.wait(PAUSES.0);
    mind.meet("S");
    assert_eq!(mind.tell(Event::Recalled(8)), [format!("send RESUME hans {:032x} 8", 0xa)]);

    // The screen takes its time: it reports in the middle of the resumption.
    let mut mind = Mind::piped().log_in(0);
    mind.hear(&said(8, "a"));
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    mind.meet("S");
    assert_eq!(mind.tell(Event::Recalled(0)), [format!("send RESUME hans {:032x} 0", 0xa)]);
    assert_eq!(mind.tell(Event::Displayed(2)), ["remember S hans 8"]);
    assert_eq!(only(&mind.hear("welcome hans 6 0b"), "send "), ["SEEN 8"]);
}

#[test]
fn lines_without_an_answer_are_sent_again_with_their_first_tag() {
    let mut mind = Mind::typing().log_in(0);
    mind.line("message yoda one");
    mind.line("message yoda two");
    mind.hear("done 5.1");
    mind.tell(Event::Lost("reset".into()));
    // Typed while the link is down: no tag yet.
    assert_eq!(mind.line("message yoda three"), ["ask Line"]);
    mind.wait(PAUSES.0);
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    let seen = mind.hear(&format!("welcome hans 6 {:032x}", 0xb));
    assert_eq!(only(&seen, "send "), ["#5.2 message yoda two", "#6.1 message yoda three"]);
    assert_eq!(mind.hear("done 5.2"), ["show Done(2)"]);
    assert_eq!(mind.hear("done 5.2"), [""; 0], "an answer for the second time");
    assert_eq!(mind.hear("done 6.1"), ["show Done(3)"]);
    // The next resumption has the new token.
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    mind.meet("S");
    assert_eq!(mind.tell(Event::Recalled(0)), [format!("send RESUME hans {:032x} 0", 0xb)]);
}

#[test]
fn another_store_gets_no_numbers_and_tags_of_the_first() {
    let mut mind = Mind::typing().log_in(0);
    mind.hear(&said(900, "a"));
    mind.line("message yoda one");
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    assert_eq!(mind.meet("T"), ["recall T hans"]);
    mind.tell(Event::Recalled(0));
    assert_eq!(mind.hear("refused bad-token"), ["show PasswordAgain"]);
    assert_eq!(mind.hear("ask name"), ["recall T hans"]);
    assert_eq!(mind.tell(Event::Recalled(3)), ["send LOGIN hans 3"]);
    assert_eq!(mind.hear("ask password"), ["ask Password"]);
    mind.type_in(Question::Password, "falcon");
    let seen = mind.hear("welcome hans 1 0c");
    assert_eq!(only(&seen, "send "), ["#1.1 message yoda one"]);
    assert_eq!(only(&mind.hear(&said(4, "b")), "show "), ["yoda: b"]);
    assert_eq!(mind.tell(Event::Displayed(2)), [""; 0], "a mark of the other store");
}

#[test]
fn a_token_that_is_refused_needs_the_password_and_never_gets_a_typed_line_instead() {
    let mut mind = Mind::typing().log_in(0);
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    mind.hear("refused bad-token");
    mind.hear("ask name");
    mind.tell(Event::Recalled(0));
    assert_eq!(mind.hear("ask password"), ["ask Password"]);
    // Entered at the very moment when the password was asked for.
    assert_eq!(mind.line("message yoda secret"), [""; 0]);
    assert_eq!(mind.type_in(Question::Password, "falcon"), ["send falcon"]);
    let seen = mind.hear("welcome hans 7 0d");
    assert_eq!(only(&seen, "send "), ["#7.1 message yoda secret"]);
    assert_eq!(only(&seen, "ask "), ["Line"]);

    let mut mind = Mind::piped().log_in(0);
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    assert_eq!(mind.hear("refused bad-token"), ["end 4"]);
}

#[test]
fn a_log_out_whose_answer_was_lost_has_been_carried_out() {
    let mut mind = Mind::piped().log_in(0);
    assert_eq!(mind.tell(Event::EndOfInput), ["send PING"]);
    assert_eq!(mind.hear("pong"), ["send #5.1 logout"]);
    mind.tell(Event::Lost("reset".into()));
    mind.wait(PAUSES.0);
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    assert_eq!(mind.hear("refused bad-token"), ["end 0"]);
}

#[test]
fn tries_to_connect_are_spaced_out_and_end() {
    let mut mind = Mind::piped().log_in(0);
    assert_eq!(mind.tell(Event::Lost("reset".into())), [r#"show Lost("reset")"#]);
    let mut pause = PAUSES.0;
    let mut last = Vec::new();
    while mind.now < OUTAGE_MAX + PAUSES.1 {
        if mind.wait(pause) != ["connect"] {
            break;
        }
        last = mind.tell(Event::NotConnected("refused".into()));
        if !last.is_empty() {
            break;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
    assert_eq!(last, ["end 1"]);
    assert!((OUTAGE_MAX..OUTAGE_MAX + PAUSES.1).contains(&mind.now), "{}", mind.now);
    // Once it has been back, the pauses are short again.
    let mut mind = Mind::piped().log_in(0);
    mind.resume(0);
    mind.tell(Event::Lost("reset".into()));
    assert_eq!(mind.wait(PAUSES.0), ["connect"]);
    // A full server is tried again, a stopped one is an end.
    mind.tell(Event::Connected);
    assert_eq!(mind.hear("full"), ["disconnect"]);
    mind.wait(2 * PAUSES.0);
    mind.tell(Event::Connected);
    assert_eq!(mind.hear("stopping").last().map(String::as_str), Some("end 10"));
}

#[test]
fn without_reconnecting_a_lost_link_is_the_end() {
    let mut mind = Mind::new(Rules { person: false, reconnect: false, errand: None }).log_in(0);
    assert_eq!(mind.tell(Event::Lost("reset".into())), ["end 1"]);
}

#[test]
fn a_silent_link_is_found_dead_within_a_minute() {
    let mut mind = Mind::piped().log_in(0);
    assert_eq!(mind.wait(PING_EVERY), ["send PING"]);
    assert_eq!(mind.hear("pong"), [""; 0]);
    assert_eq!(mind.wait(PING_EVERY), ["send PING"]);
    // Anything is a sign of life.
    mind.hear("arrived yoda");
    assert_eq!(mind.wait(PING_EVERY), ["send PING"]);
    let before = mind.now;
    let mut seen = Vec::new();
    while seen.is_empty() || seen == ["send PING"] {
        let wait = mind.state.deadline().expect("something is due") - mind.now;
        seen = mind.wait(wait);
    }
    assert_eq!(seen, ["disconnect", r#"show Lost("no answer for 20 s")"#]);
    assert_eq!(mind.now - before, SILENCE_MAX);
    const { assert!(PING_EVERY + SILENCE_MAX < 60_000) };
    // A server that does not answer the greeting or the log-in is dead too.
    let mut mind = Mind::piped();
    mind.tell(Event::Connected);
    assert_eq!(mind.wait(SILENCE_MAX), ["disconnect", "end 9"]);
}

#[test]
fn leaving_takes_five_seconds_at_most() {
    let mut mind = Mind::typing().log_in(0);
    assert_eq!(mind.tell(Event::Leave), ["send #5.1 logout"]);
    assert_eq!(mind.wait(FAREWELL_MAX), ["end 130"]);
    let mut mind = Mind::typing().log_in(0);
    mind.tell(Event::Leave);
    assert_eq!(mind.hear("goodbye"), ["show Goodbye", "end 0"]);
    let mut mind = Mind::typing().log_in(0);
    mind.tell(Event::Leave);
    assert_eq!(mind.tell(Event::Leave), ["end 130"], "a second time: at once");
    let mut mind = Mind::typing().log_in(0);
    assert_eq!(mind.tell(Event::EndOfInput), ["send #5.1 logout"]);
    assert_eq!(mind.wait(FAREWELL_MAX), ["end 1"]);
    let mut mind = Mind::typing();
    mind.meet("S");
    assert_eq!(mind.tell(Event::Leave), ["end 130"]);
    let mut mind = Mind::typing();
    mind.meet("S");
    assert_eq!(mind.tell(Event::EndOfInput), ["end 0"]);
}

#[test]
fn who_is_here_is_learnt_from_what_comes() {
    let mut mind = Mind::typing().log_in(0);
    assert_eq!(only(&mind.hear("arrived luke"), "present "), ["luke true"]);
    assert_eq!(only(&mind.hear("left luke"), "present "), ["luke false"]);
    assert_eq!(only(&mind.hear("said 3 mail 0 vader late"), "present "), [""; 0], "he may be gone");
    mind.line("whoelsesince 100");
    assert_eq!(only(&mind.hear("names luke vader"), "present "), [""; 0], "they may be gone");
    mind.hear("done 5.1");
    mind.hear(&said(4, "hi"));
    mind.line("/whoelse");
    assert_eq!(mind.hear("names a")[..2], ["nobody present", "present a true"]);
    assert_eq!(mind.hear("names b")[..1], ["present b true"], "the second page");
    mind.hear("done 5.2");
    assert_eq!(only(&mind.hear("stored a"), "present "), ["a false"]);
}

fn errand() -> Mind {
    let [user, password, to, text] = ["hans", "falcon", "yoda", "hi there"].map(str::to_owned);
    Mind::new(Rules { person: false, reconnect: true, errand: Some(Errand { user, password, to, text }) })
}

#[test]
fn an_errand_ends_with_what_became_of_the_message() {
    for (answer, shown, code) in [
        (None, None, 0),
        (Some("stored yoda"), Some("yoda is offline (never online yet), message stored"), 0),
        (Some("refused blocked yoda"), None, 8),
        (Some("refused invalid-user yoda"), None, 8),
        (Some("refused mailbox-full yoda"), None, 8),
        (Some("refused disk-failed"), None, 1),
    ] {
        let mut mind = errand();
        mind.tell(Event::Start);
        assert_eq!(mind.meet("S"), ["recall S hans"]);
        assert_eq!(mind.tell(Event::Recalled(4)), ["send LOGIN hans 4"]);
        assert_eq!(mind.hear("ask password"), ["send falcon"]);
        let seen = mind.hear("welcome hans 5 0a");
        assert_eq!(seen[1..], ["send #5.1 message yoda hi there"]);
        // What waits for hans waits on: nobody has read it here.
        assert_eq!(mind.hear(&said(9, "private")), [""; 0]);
        let seen = answer.map(|answer| mind.hear(answer)).unwrap_or_default();
        assert_eq!(only(&seen, "show "), shown.into_iter().collect::<Vec<_>>());
        assert_eq!(mind.hear("done 5.1"), ["send #5.2 logout"]);
        assert_eq!(mind.hear("goodbye"), [format!("end {code}")]);
    }
    let mut mind = errand();
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    mind.hear("ask password");
    assert_eq!(mind.hear("wrong-password 2"), ["end 4"]);
    let mut mind = errand();
    mind.meet("S");
    mind.tell(Event::Recalled(0));
    assert_eq!(mind.hear("refused unknown-user"), ["end 4"]);
}
