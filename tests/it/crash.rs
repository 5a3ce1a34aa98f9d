//! `kill -9` of the real server, and cuts of its power, under load and at hand-picked moments:
//! what was acknowledged is delivered, and what somebody got who left properly is not delivered
//! again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use chinwag::server::store::{Place, Store};
use rustix::process::Signal;

use crate::dice::Dice;
use crate::disk::{Disk, has_strace};
use crate::programs::{House, Server};
use crate::socket::{Client, PATIENCE};

const SENDERS: usize = 3;
const RECEIVERS: usize = 4;

/// Messages that one sender has on their way at a time.
const WINDOW: usize = 8;

/// Bytes that some messages are made longer by, so that buffers fill up and pages end early.
const LONG_BYTES: usize = 4000;

/// Acknowledgements after which a server is killed, at most.
const ACKNOWLEDGED_MAX: u64 = 300;

/// The number of rounds that CI plays; `CHINWAG_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 20;

/// The same for cuts of the power; `CHINWAG_POWER_ROUNDS` asks for more.
const POWER_ROUNDS: u64 = 4;

/// A disk with room for all mailboxes and the log.
const POWER_DISK_BYTES: u64 = 96 << 20;

/// Who got what, in the order of the visits.
type Visits = BTreeMap<usize, Vec<Visit>>;

/// What one receiver saw between log-in and end.
struct Visit {
    /// The texts, without names and times.
    texts: Vec<String>,
    /// The log-out was answered and the connection ended.
    proper: bool,
}

/// One who sends as fast as answers allow, over all rounds.
struct Author {
    number: usize,
    /// The number of the next message.
    next: usize,
    dice: Dice,
    /// Per receiver: the texts of which the server said that they are stored.
    acknowledged: BTreeMap<usize, BTreeSet<String>>,
}

impl Author {
    fn new(number: usize) -> Self {
        Self { number, next: 0, dice: Dice(number as u64), acknowledged: BTreeMap::new() }
    }

    /// Sends until the server is gone; tells `killer` of every acknowledgement.
    fn send_on(&mut self, address: SocketAddr, killer: &Sender<()>) {
        // The others may have had the server killed already.
        let Some(mut client) = Client::try_connect(address) else { return };
        client.send(&format!("s{}\npass", self.number));
        while !client.closed {
            let window: Vec<(Option<usize>, String)> = (0..WINDOW).map(|_| self.write()).collect();
            // A fence behind each message tells the answers apart.
            let lines = window.iter().map(|(to, text)| {
                let padding = if self.dice.roll(8) == 0 { LONG_BYTES } else { 0 };
                let to = to.map_or_else(|| format!("group send g{}", self.number), |to| format!("message r{to}"));
                format!("{to} {text} {}\nhelp {text}", "x".repeat(padding))
            });
            client.send(&lines.collect::<Vec<_>>().join("\n"));
            let last = fence(&window[WINDOW - 1].1);
            client.read_until(|all| String::from_utf8_lossy(all).contains(&last));
            let mut window = window.into_iter().peekable();
            let mut stored = false;
            for line in client.take_whole_lines() {
                let Some((to, text)) = window.peek() else { break };
                if line == fence(text) {
                    window.next();
                    stored = false;
                } else if let Some(receivers) = stored_for(&line) {
                    assert!(!stored, "{text} was stored twice");
                    assert!(to.is_none_or(|to| receivers == [to]), "{line:?} is no answer to a text for {to:?}");
                    stored = true;
                    for receiver in receivers {
                        self.acknowledged.entry(receiver).or_default().insert(text.clone());
                    }
                    // When the round is over nobody counts any more.
                    let _ = killer.send(());
                }
            }
        }
    }

    /// The next text, to one receiver or to the group of all.
    fn write(&mut self) -> (Option<usize>, String) {
        let text = format!("m{}-{}", self.number, self.next);
        self.next += 1;
        let to = self.dice.pick(RECEIVERS + 1);
        ((to < RECEIVERS).then_some(to), text)
    }
}

/// Who gets the text later, if the answer says that it is stored.
fn stored_for(line: &str) -> Option<Vec<usize>> {
    let names = match line.strip_prefix("Sent to g") {
        Some(names) => names.split_once("stored for ")?.1,
        None => line.strip_suffix("), message stored")?.split(" is offline").next()?,
    };
    let words = names.split(' ').filter_map(|word| word.strip_prefix('r'));
    Some(words.filter_map(|number| number.parse().ok()).collect())
}

/// The answer to `help <text>`.
fn fence(text: &str) -> String {
    format!("Error. Invalid command {text} (try help)")
}

/// Logs in and out until the server is gone; some visits last until a few answers have come.
fn visit_on(address: SocketAddr, receiver: usize, dice: &mut Dice) -> Vec<Visit> {
    let mut visits = Vec::new();
    loop {
        // The server may be gone before the last visit can begin.
        let Some(client) = Client::try_connect(address) else { return visits };
        let visit = visit(client, receiver, dice.pick(4));
        let proper = visit.proper;
        visits.push(visit);
        if !proper {
            return visits;
        }
    }
}

fn visit(client: Client, receiver: usize, stay: usize) -> Visit {
    visit_as(client, &format!("r{receiver}"), "pass", stay)
}

/// Logs in, waits for a few answers, logs out and reads to the end.
fn visit_as(mut client: Client, name: &str, password: &str, stay: usize) -> Visit {
    client.send(&format!("{name}\n{password}"));
    client.read_until(|all| String::from_utf8_lossy(all).contains("Welcome"));
    client.welcome = true;
    for _ in 0..stay {
        client.fence();
    }
    client.send("logout");
    client.read_to_end();
    let lines = client.take_whole_lines();
    Visit { texts: texts(&lines), proper: lines.last().is_some_and(|line| line == "Goodbye") }
}

/// The texts among `lines`, without senders, times and padding.
fn texts(lines: &[String]) -> Vec<String> {
    let said = lines.iter().filter_map(|line| line.split_once(": m").or_else(|| line.split_once("] m")));
    said.map(|(_, text)| format!("m{}", text.split(' ').next().unwrap_or_default())).collect()
}

/// Many lives of one server, and what everybody knows of them.
struct Story {
    authors: Vec<Author>,
    visits: Visits,
    dice: Dice,
}

impl Story {
    fn new() -> Self {
        Self { authors: (0..SENDERS).map(Author::new).collect(), visits: Visits::new(), dice: Dice(2) }
    }

    /// The credentials of all who appear.
    fn accounts() -> String {
        (0..SENDERS).map(|n| format!("s{n} pass\n")).chain((0..RECEIVERS).map(|n| format!("r{n} pass\n"))).collect()
    }

    fn receivers() -> Vec<String> {
        (0..RECEIVERS).map(|n| format!("r{n}")).collect()
    }

    /// Every author makes a group of all receivers; then the server is killed.
    fn make_groups(server: Server) {
        for author in 0..SENDERS {
            let receivers = Self::receivers().join(" ");
            let made = server.script(&format!("s{author} pass\ngroup create g{author} {receivers}\n"));
            assert!(made.contains(" created the group "), "{made}");
        }
        server.kill();
    }

    fn check_groups(server: &Server) {
        for author in 0..SENDERS {
            let members = server.script(&format!("s{author} pass\ngroup members g{author}\n"));
            let wanted = format!("{}\ns{author} (owner)\n", Self::receivers().join("\n"));
            assert!(members.ends_with(&wanted), "{members}");
        }
    }

    /// One life of the server, until `end` is called at a random moment.
    fn round(&mut self, server: Server, end: impl FnOnce(Server)) {
        let Self { authors, visits, dice } = self;
        let address = server.addresses[0];
        let acknowledged = 1 + dice.roll(ACKNOWLEDGED_MAX);
        // Two come and go, the others stay away.
        let first = dice.pick(RECEIVERS);
        let visitors = [first, (first + 1 + dice.pick(RECEIVERS - 1)) % RECEIVERS];
        let (killer, moments) = channel();
        thread::scope(|scope| {
            for author in authors {
                let killer = killer.clone();
                scope.spawn(move || author.send_on(address, &killer));
            }
            let visiting = visitors.map(|receiver| {
                let mut dice = Dice(dice.roll(u64::MAX));
                (receiver, scope.spawn(move || visit_on(address, receiver, &mut dice)))
            });
            for _ in 0..acknowledged {
                moments.recv_timeout(PATIENCE).expect("the senders send");
            }
            end(server);
            for (receiver, visiting) in visiting {
                visits.entry(receiver).or_default().extend(visiting.join().expect("no panic"));
            }
        });
    }

    /// Everybody collects what is left.
    fn collect(&mut self, server: &Server) {
        for receiver in 0..RECEIVERS {
            let visit = visit(server.connect(), receiver, 1);
            assert!(visit.proper, "r{receiver} cannot collect");
            self.visits.entry(receiver).or_default().push(visit);
        }
    }

    /// What was acknowledged and never came.
    fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for receiver in 0..RECEIVERS {
            let visits = self.visits.get(&receiver).into_iter().flatten();
            let got: BTreeSet<&String> = visits.flat_map(|visit| &visit.texts).collect();
            let acknowledged = self.authors.iter().filter_map(|author| author.acknowledged.get(&receiver)).flatten();
            lost.extend(acknowledged.filter(|text| !got.contains(text)).map(|text| format!("{text} for r{receiver}")));
        }
        lost
    }

    /// Checks all promises, and says how much they were put to the test.
    fn check(&self, rounds: u64) {
        let mut proper = 0;
        for (receiver, visits) in &self.visits {
            check_order(*receiver, visits);
            check_repeats(*receiver, visits);
            proper += visits.iter().filter(|visit| visit.proper && !visit.texts.is_empty()).count();
        }
        assert_eq!(self.lost(), [""; 0], "acknowledged and lost");
        let acknowledged = self.acknowledged();
        println!("{rounds} rounds, {acknowledged} messages acknowledged, {proper} proper visits with messages");
        assert!(proper > RECEIVERS, "the receivers got something before the end as well");
    }

    fn acknowledged(&self) -> usize {
        self.authors.iter().flat_map(|author| author.acknowledged.values()).map(BTreeSet::len).sum()
    }
}

/// How many rounds a test plays.
fn rounds(variable: &str, normal: u64) -> u64 {
    match std::env::var(variable) {
        Ok(rounds) => rounds.parse().unwrap_or_else(|_| panic!("{variable} is a number")),
        Err(_) => normal,
    }
}

#[test]
fn a_killed_server_keeps_its_promises() {
    let rounds = rounds("CHINWAG_CRASH_ROUNDS", ROUNDS);
    let house = House::new(Story::accounts());
    let mut story = Story::new();
    Story::make_groups(house.serve(&[]));
    for _ in 0..rounds {
        story.round(house.serve(&[]), Server::kill);
    }
    let server = house.serve(&[]);
    story.collect(&server);
    Story::check_groups(&server);
    let _ = server.stop();
    story.check(rounds);
}

/// Cuts the power of a server and its disk, and brings the disk back.
fn cut_power(disk: &Disk, server: Server) {
    server.signal(Signal::STOP);
    disk.cut_power();
    server.kill();
    disk.remount();
}

#[test]
fn a_server_whose_power_is_cut_keeps_its_promises() {
    let Some(disk) = Disk::mounted("a_server_whose_power_is_cut_keeps_its_promises", POWER_DISK_BYTES) else {
        return;
    };
    let rounds = rounds("CHINWAG_POWER_ROUNDS", POWER_ROUNDS);
    let house = House::within(disk.path(), Story::accounts());
    disk.sync();
    let mut story = Story::new();
    for _ in 0..rounds {
        story.round(house.serve(&[]), |server| cut_power(&disk, server));
    }
    let server = house.serve(&[]);
    story.collect(&server);
    let _ = server.stop();
    story.check(rounds);
}

/// The same must fail for a server whose syncs do nothing: otherwise the cut proves nothing.
#[test]
fn a_cut_of_the_power_takes_what_was_not_synced() {
    const TEST: &str = "a_cut_of_the_power_takes_what_was_not_synced";
    if !has_strace(TEST) {
        return;
    }
    let Some(disk) = Disk::mounted(TEST, POWER_DISK_BYTES) else { return };
    for round in 1.. {
        let house = House::within(disk.path(), Story::accounts());
        disk.sync();
        let mut story = Story::new();
        story.round(house.serve_traced("retval=0"), |server| cut_power(&disk, server));
        // What is left of the file may be damaged as well; then nobody gets anything.
        if Store::open(&Place::File(house.folder.path().join("chinwag.db")), 0).is_ok() {
            let server = house.serve(&[]);
            story.collect(&server);
            let _ = server.stop();
        }
        let (lost, acknowledged) = (story.lost().len(), story.acknowledged());
        println!("without syncs {lost} of {acknowledged} acknowledged messages are lost");
        if lost > 0 {
            return;
        }
        assert!(round < POWER_ROUNDS, "nothing is ever lost");
    }
}

/// What somebody got who then left properly must not come again, and nothing twice in a visit.
fn check_repeats(receiver: usize, visits: &[Visit]) {
    let mut settled = BTreeSet::new();
    for visit in visits {
        let texts: BTreeSet<&String> = visit.texts.iter().collect();
        assert_eq!(texts.len(), visit.texts.len(), "r{receiver} got something twice in one visit");
        let again: Vec<_> = texts.intersection(&settled).collect();
        assert!(again.is_empty(), "r{receiver} got {again:?} and left properly, and got it again");
        if visit.proper {
            settled.extend(texts);
        }
    }
}

/// Every sender's texts come in the order in which they were sent: within a visit, and over all
/// visits when each counts as it comes first.
fn check_order(receiver: usize, visits: &[Visit]) {
    let mut known = BTreeSet::new();
    assert_rising(receiver, visits.iter().flat_map(|visit| &visit.texts).filter(|text| known.insert(*text)));
    for visit in visits {
        assert_rising(receiver, visit.texts.iter());
    }
}

fn assert_rising<'a>(receiver: usize, texts: impl Iterator<Item = &'a String>) {
    let mut newest: HashMap<&str, usize> = HashMap::new();
    for text in texts {
        let (author, number) = text.split_once('-').expect("a sender and a number");
        let number = number.parse().expect("a whole number");
        let before = newest.insert(author, number);
        assert!(before < Some(number), "r{receiver} got {text} after {before:?}");
    }
}

/// Starts a server, lets `hans` do something, and kills it once that is answered.
fn kill_after(house: &House, line: &str, answer: &str) {
    let server: Server = house.serve(&[]);
    let mut client = server.connect();
    client.log_in("hans", "falcon");
    client.send(line);
    client.read_until(|all| String::from_utf8_lossy(all).contains(answer));
    assert!(!client.closed, "{line:?} was not answered");
    server.kill();
}

#[test]
fn an_answer_that_was_read_holds_after_a_kill() {
    let house = House::new("hans falcon\nyoda wise\n");
    kill_after(&house, "message yoda one", "message stored\n");
    kill_after(&house, "block yoda", "yoda is blocked\n");
    kill_after(&house, "message yoda two", "message stored\n");
    let server = house.serve(&[]);
    let shown = server.script("yoda\nwise\nmessage hans hi\nstatus hans\nwhoelsesince 1000\nlogout\n");
    let lines: Vec<&str> = shown.lines().skip(1).collect();
    assert_eq!(lines[0], "2 messages came while you were away");
    assert!(lines[1].ends_with("] hans: one") && lines[2].ends_with("] hans: two"), "{shown}");
    assert_eq!(lines[3], "Error. hans has blocked you, nothing sent");
    assert!(lines[4].starts_with("hans is offline, last online "), "{shown}");
    assert_eq!(lines[5..], ["hans", "Goodbye"]);
    server.kill();
    // What was read by somebody who left properly stays read.
    kill_after(&house, "unblock yoda", "yoda is unblocked\n");
    let server = house.serve(&[]);
    assert!(server.script("yoda\nwise\nmessage hans hi\n").ends_with("message stored\n"));
}

#[test]
fn groups_and_waiting_receipts_hold_after_a_kill() {
    let house = House::new("hans falcon\nyoda wise\n");
    kill_after(&house, "group create friends yoda", "created the group friends");
    kill_after(&house, "group rename friends rebels", "renamed friends to rebels");
    kill_after(&house, "receipts on\ngroup send rebels hi", "stored for yoda");
    let server = house.serve(&[]);
    let shown = server.script("yoda\nwise\nlogout\n");
    assert!(shown.contains("] [rebels/hans] hi\n"), "{shown}");
    server.kill();
    let server = house.serve(&[]);
    let shown = server.script("hans\nfalcon\ngroups\nlogout\n");
    assert!(shown.contains("[seen by yoda ") && shown.contains("rebels (yours, 2 members)"), "{shown}");
}

/// Somebody asks to leave while what waited for him is still on its way.
#[test]
fn what_was_not_written_before_a_kill_is_not_lost() {
    for stored in [20, 30, 35, 40, 60] {
        let house = House::new("hans falcon\nvader sithlord\n");
        let server = house.serve(&[]);
        let mut hans = server.connect();
        hans.log_in("hans", "falcon");
        for number in 0..stored {
            hans.send(&format!("message vader m0-{number} {}", "x".repeat(3000)));
        }
        hans.fence();
        let answers = hans.take_lines();
        assert_eq!(answers.iter().filter(|answer| answer.ends_with("message stored")).count(), stored);

        let mut vader = Client::deaf(server.addresses[0]);
        vader.send("vader\nsithlord\nlogout");
        hans.read_until(|all| String::from_utf8_lossy(all).contains("vader logged in\n"));
        // Every answer is behind a commit, and those before it.
        for _ in 0..20 {
            hans.send("block vader\nunblock vader");
            hans.fence();
        }
        server.kill();

        vader.read_to_end();
        let got = texts(&vader.take_whole_lines());
        let server = house.serve(&[]);
        let rest = visit_as(server.connect(), "vader", "sithlord", 0);
        let got: BTreeSet<&String> = got.iter().chain(&rest.texts).collect();
        let lost: Vec<String> = (0..stored).map(|n| format!("m0-{n}")).filter(|text| !got.contains(text)).collect();
        assert!(lost.is_empty(), "of {stored} acknowledged messages {lost:?} are lost");
    }
}
