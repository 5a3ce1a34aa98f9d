//! What happens between a job for the store and its report: orders of events that a transcript
//! cannot write down, because there the store answers at once.

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Effect, Event, MAILBOX_MESSAGES_MAX, Parting, Record, Rules, State};
use chinwag::server::store::{Place, Store};
use chinwag::wire::name::UserName;
use chinwag::wire::time::Moment;
use chinwag::wire::{Letter, News, Notice, Refusal};

const YODA: ConnId = ConnId(1);

/// A state whose store answers when the test says so.
struct Slow {
    state: State,
    store: Store,
    now: i64,
    records: Vec<Record>,
    fetches: Vec<(ConnId, UserName, u64)>,
    told: Vec<(ConnId, Notice)>,
}

fn name(word: &str) -> UserName {
    UserName::parse(word).expect("legal")
}

impl Slow {
    fn new(timeout: i64) -> Self {
        let (store, remembered) = Store::open(&Place::Memory, 0).expect("memory");
        let accounts = ["yoda", "hans", "vader"].map(|user| (name(user), "secret".to_owned()));
        let rules = Rules {
            block: 60_000,
            timeout,
            heartbeat_timeout: 30_000,
            allow_new_users: false,
            hide_blockers: false,
            ask_private: false,
            mailbox_max: MAILBOX_MESSAGES_MAX,
            lobby_max: 9,
        };
        let state = State::new(rules, accounts, remembered, Moment { elapsed: 0, wall: 0 }, || 7);
        Self { state, store, now: 0, records: Vec::new(), fetches: Vec::new(), told: Vec::new() }
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut effects = Vec::new();
        self.state.handle(Moment { elapsed: self.now, wall: self.now }, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Store(record) => self.records.push(record),
                Effect::Fetch { conn, user, after } => self.fetches.push((conn, user, after)),
                Effect::Send(conn, notice) | Effect::Release(conn, Some(notice)) => self.told.push((conn, notice)),
                _ => {}
            }
        }
    }

    fn log_in(&mut self, conn: ConnId, user: &str) {
        self.tell(Event::Opened(conn, [127, 0, 0, 1].into()));
        self.say(conn, &format!("{user} secret"));
    }

    fn say(&mut self, conn: ConnId, line: &str) {
        self.tell(Event::Line(conn, line.as_bytes()));
    }

    fn commit(&mut self) {
        let records = std::mem::take(&mut self.records);
        self.store.commit(&records).expect("memory takes it");
        self.tell(Event::Committed(records.len()));
    }

    fn fail(&mut self) {
        let records = std::mem::take(&mut self.records);
        self.tell(Event::StoreFailed(records.len()));
    }

    fn answer_fetches(&mut self) {
        for (conn, user, after) in std::mem::take(&mut self.fetches) {
            let page = self.store.page(&user, after).expect("memory gives it");
            self.tell(Event::Mail(conn, Some(page)));
        }
    }

    /// Lets the store do all it has to do.
    fn settle(&mut self) {
        loop {
            self.commit();
            self.tell(Event::Flushed);
            if self.fetches.is_empty() && self.records.is_empty() {
                return;
            }
            self.answer_fetches();
        }
    }

    fn texts(&self, reader: ConnId) -> Vec<String> {
        let said = |(conn, notice): &(ConnId, Notice)| match notice {
            Notice::Said(Letter { text, .. }) if *conn == reader => Some(text.as_str().to_owned()),
            _ => None,
        };
        self.told.iter().filter_map(said).collect()
    }
}

#[test]
fn a_page_for_a_session_that_is_gone_does_not_answer_the_next_one() {
    let mut slow = Slow::new(10_000);
    let (first, second) = (ConnId(2), ConnId(3));
    slow.log_in(YODA, "yoda");
    for number in 0..200 {
        slow.say(YODA, &format!("message hans {number}"));
    }
    slow.commit();
    slow.log_in(first, "hans");
    slow.tell(Event::Flushed);
    assert_eq!(slow.fetches.len(), 1);
    // Time is up for hans while his page is at the store, and he comes back before it does.
    slow.now = 5_000;
    slow.say(YODA, "whoelse");
    slow.now = 10_000;
    slow.tell(Event::Tick);
    slow.log_in(second, "hans");
    slow.tell(Event::Flushed);
    assert_eq!(slow.fetches.len(), 2);
    slow.settle();
    slow.say(YODA, "message hans live");
    let mut want: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    want.push("live".to_owned());
    assert_eq!(slow.texts(second), want);
    assert_eq!(slow.texts(first), [""; 0]);
}

#[test]
fn a_confirmation_that_failed_does_not_delete_what_came_back_since() {
    let mut slow = Slow::new(1_000_000);
    slow.log_in(YODA, "yoda");
    slow.say(YODA, "message hans one");
    slow.commit();
    slow.log_in(ConnId(2), "hans");
    slow.settle();
    slow.say(ConnId(2), "logout");
    slow.tell(Event::Flushed);
    slow.fail();
    // Within the second a reset: it was perhaps not read. The disk works again.
    slow.tell(Event::Closed(ConnId(2), Parting::Cut));
    slow.commit();
    slow.now = 10_000;
    slow.tell(Event::Tick);
    slow.commit();
    slow.log_in(ConnId(3), "hans");
    slow.settle();
    assert_eq!(slow.texts(ConnId(3)), ["one"]);
}

#[test]
fn a_failed_block_does_not_undo_a_later_one_that_holds() {
    let mut slow = Slow::new(1_000_000);
    slow.log_in(YODA, "yoda");
    slow.log_in(ConnId(2), "vader");
    slow.commit();
    slow.say(YODA, "block vader");
    // The first record is at the store; the next two are collected meanwhile.
    let at_store = std::mem::take(&mut slow.records).len();
    slow.say(YODA, "unblock vader");
    slow.say(YODA, "block vader");
    slow.tell(Event::StoreFailed(at_store));
    slow.commit();
    assert_eq!(slow.told.last(), Some(&(YODA, Notice::Blocked(name("vader")))));
    slow.say(ConnId(2), "message yoda join me");
    assert_eq!(slow.texts(YODA), [""; 0]);
}

/// What `asker` was told, without the texts of others.
fn answers(slow: &mut Slow, asker: ConnId) -> Vec<Notice> {
    let told = std::mem::take(&mut slow.told).into_iter();
    told.filter(|(conn, notice)| *conn == asker && !matches!(notice, Notice::Arrived(_)))
        .map(|(_, notice)| notice)
        .collect()
}

const NOT_STORED: Notice = Notice::Refused(Refusal::DiskFailed);

#[test]
fn what_builds_on_a_group_that_was_not_stored_is_not_stored_either() {
    let mut slow = Slow::new(1_000_000);
    slow.log_in(YODA, "yoda");
    slow.commit();
    slow.say(YODA, "group create friends");
    let at_store = std::mem::take(&mut slow.records).len();
    slow.say(YODA, "group add friends hans");
    slow.say(YODA, "group rename friends rebels");
    slow.say(YODA, "group create others");
    slow.told.clear();
    slow.tell(Event::StoreFailed(at_store));
    slow.commit();
    let told = answers(&mut slow, YODA);
    assert_eq!(told[..3], [NOT_STORED, NOT_STORED, NOT_STORED]);
    assert!(matches!(&told[3], Notice::Group { news: News::Created(_), .. }), "{told:?}");
    slow.say(YODA, "groups");
    assert!(matches!(&answers(&mut slow, YODA)[..], [Notice::Groups(groups)] if groups.len() == 1));
}

#[test]
fn a_name_that_was_not_given_up_is_not_taken() {
    let mut slow = Slow::new(1_000_000);
    slow.log_in(YODA, "yoda");
    slow.log_in(ConnId(2), "hans");
    slow.say(YODA, "group create friends hans");
    slow.commit();
    slow.say(YODA, "group rename friends rebels");
    let at_store = std::mem::take(&mut slow.records).len();
    slow.say(ConnId(2), "group create friends");
    slow.told.clear();
    slow.tell(Event::StoreFailed(at_store));
    slow.commit();
    assert_eq!(answers(&mut slow, ConnId(2)), [NOT_STORED]);
    slow.say(ConnId(2), "group members friends");
    assert!(matches!(&answers(&mut slow, ConnId(2))[..], [Notice::Members { owner, .. }] if owner.as_str() == "yoda"));
}

#[test]
fn who_comes_back_before_his_log_out_is_on_the_disk_loses_no_receipt() {
    let mut slow = Slow::new(1_000_000);
    let (first, second) = (ConnId(2), ConnId(3));
    slow.log_in(YODA, "yoda");
    slow.say(YODA, "receipts on");
    slow.say(YODA, "message hans one");
    slow.settle();
    slow.say(YODA, "logout");
    slow.tell(Event::Flushed);
    slow.log_in(first, "hans");
    slow.settle();
    // Shown to a session whose end the disk does not take.
    slow.log_in(second, "yoda");
    slow.say(second, "logout");
    slow.tell(Event::Flushed);
    slow.fail();
    slow.tell(Event::Closed(second, Parting::Cut));
    slow.log_in(ConnId(4), "yoda");
    let seen = slow.told.iter().filter(|(_, notice)| matches!(notice, Notice::SeenMeanwhile { texts: 1, .. }));
    assert_eq!(seen.map(|(conn, _)| *conn).collect::<Vec<_>>(), [second, ConnId(4)]);
}
