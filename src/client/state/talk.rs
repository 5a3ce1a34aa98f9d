//! Logged in: typed lines on their way there, and what comes back onto the screen.

use std::collections::VecDeque;

use super::modes::{MODES_MAX, NO_QUESTION, Talk};
use super::private::Outcome;
use super::{
    Code, Effect, End, Errand, FAREWELL_MAX, Fence, PAUSES, PING_EVERY, Phase, Question, Shown, State, Task, sharing,
};
use crate::wire::command::{BLANKS, first_word, is_blank};
use crate::wire::control::Say;
use crate::wire::line::{self, LINE_BYTES_MAX};
use crate::wire::name::{GroupName, UserName};
use crate::wire::{self, Letter, Mode, News, Notice, Pass, Refusal, Request, Road, Scope, Tag};

/// Typed lines that may be without an answer; then the keyboard waits.
pub const PENDING_MAX: usize = 64;

/// Longest typed line, in bytes: its tag must fit into the line too.
pub const TYPED_BYTES_MAX: usize = LINE_BYTES_MAX - 64;

/// A typed line whose answers have not all come.
#[derive(Debug)]
pub(super) struct Pending {
    /// Given when it is sent first, and kept for every time after.
    pub(super) tag: Option<Tag>,
    /// Counts the typed lines of this run; 0 for a line of the client's own.
    count: u64,
    pub(super) text: String,
    /// It only leads back to where an earlier session was: its answers are not shown.
    quiet: bool,
    /// The client may carry it out itself: that shows when all before it are answered.
    own: bool,
    /// It has made a connection to another client.
    tried: bool,
    /// It was sent on this connection.
    sent: bool,
}

/// Commands that the client carries out, at least sometimes.
const OWN: [&str; 5] = ["startprivate", "private", "stopprivate", "register", "download"];

/// Commands that end the session: out of a pipe they wait for what is done with files.
const ENDS: [&str; 2] = ["logout", "leave"];

/// Leaves the server, whatever the mode.
const LOG_OUT: &str = "/logout";

impl Pending {
    fn new(count: u64, text: String) -> Self {
        let mut pending = Self { tag: None, count, text, quiet: false, own: false, tried: false, sent: false };
        pending.own = OWN.contains(&pending.word());
        pending
    }

    /// The command, if it is one.
    fn word(&self) -> &str {
        let (word, _) = first_word(self.text.trim_start_matches(BLANKS));
        word.strip_prefix('/').unwrap_or(word)
    }

    fn quiet(text: String) -> Self {
        Self { quiet: true, ..Self::new(0, text) }
    }
}

impl State {
    /// The welcome, of the first log-in or of a later one.
    pub(super) fn arrive(&mut self, user: UserName, pass: Pass) {
        self.phase = Phase::Online;
        (self.pass, self.refused, self.tagged) = (Some(pass), false, 0);
        (self.pause, self.first_page, self.fenced) = (PAUSES.0, true, Fence::None);
        self.next_ping = Some(self.now.elapsed + PING_EVERY);
        self.present.clear();
        self.effects.push(Effect::NobodyPresent);
        // First of all: who sees us come may want to connect.
        if !self.is_sending() {
            self.effects.push(Effect::Listen);
        }
        let outage = self.outage.take();
        let is_back = outage.is_some();
        match outage {
            Some((since, _)) => {
                self.put(Shown::Back(self.now.elapsed - since));
                // The screen may have displayed more while the link was down.
                if self.displayed > self.told {
                    self.confirm();
                }
            }
            None if self.rules.errand.is_none() => self.show(Notice::Welcome { user: user.clone(), pass: None }),
            None => {}
        }
        let first = self.user.is_none();
        self.user = Some(user);
        self.pending.iter_mut().for_each(|pending| pending.sent = false);
        if !self.is_sending() {
            self.ask_again_for_private();
            let anew = self.told_in.replace(pass.session) != Some(pass.session);
            self.hear_of_sharing(sharing::Event::Arrived { anew });
            if first {
                self.effects.push(Effect::RecallOffered(self.reader()));
            }
        }
        if is_back && (self.talk != Talk::default() || self.changes_session()) {
            // The session may be another one: its mode comes before the answer.
            self.returning = Some(Mode::Command);
            self.say_and_wait(Say::Ping);
        } else {
            self.send_lines();
        }
        match &self.rules.errand {
            Some(Errand { task: Task::Send { to, text }, .. }) if first => {
                let line = format!("message {to} {text}");
                self.queue(0, line);
            }
            Some(Errand { task: Task::Get { .. }, .. }) if first => self.get(),
            Some(_) => {}
            None if first && self.rules.chat => self.queue(0, "/general".to_owned()),
            None => {}
        }
        self.ask_lines();
        self.log_out_when_done();
    }

    /// Sends the lines whose turn has come, or carries them out here. One that may be the
    /// client's own waits until all before it are answered, and all behind it wait too.
    fn send_lines(&mut self) {
        let mut at = 0;
        while let Some(pending) = self.pending.get(at) {
            if pending.own {
                if at > 0 || !self.carry_out_first() {
                    return;
                }
            } else {
                if !pending.sent && self.phase == Phase::Online {
                    self.send_pending(at);
                }
                at += 1;
            }
        }
    }

    /// Carries out the first line, or finds that it is one for the server. False if it waits.
    fn carry_out_first(&mut self) -> bool {
        let Some(first) = self.pending.front() else { return false };
        let (text, count, tried) = (first.text.clone(), first.count, first.tried);
        let outcome = match self.talk.request(&text) {
            Some(request) => match self.carry_out_files(&request, count, tried) {
                Some(outcome) => outcome,
                None => self.carry_out_private(request, tried),
            },
            None => Outcome::ForServer,
        };
        match (outcome, self.pending.front_mut()) {
            (Outcome::ForServer, Some(first)) => first.own = false,
            (Outcome::Taken, Some(_)) => drop(self.pending.pop_front()),
            (Outcome::Done, Some(_)) => {
                let count = self.pending.pop_front().map_or(0, |first| first.count);
                if count > 0 {
                    self.put(Shown::Done(count));
                }
                self.ask_lines();
            }
            (outcome, Some(first)) => {
                first.tried |= outcome == Outcome::Tries;
                return false;
            }
            (_, None) => {}
        }
        true
    }

    /// Something has come that a line may have waited for.
    pub(super) fn go_on_with_lines(&mut self) {
        if self.returning.is_none() && self.user.is_some() {
            self.send_lines();
            self.log_out_when_done();
        }
    }

    /// Whether a line without an answer may have changed the session or not.
    fn changes_session(&self) -> bool {
        let mut talk = self.talk.clone();
        self.pending.iter().any(|pending| pending.quiet || talk.follow(&pending.text))
    }

    /// Back with all that the server had to say: if the session is another one, or not where it
    /// was when the first line without an answer was typed, it is led there. Then these lines
    /// follow. Those that only change the session get a new tag, to be carried out again.
    fn go_on(&mut self, mode: Mode) {
        self.returning = None;
        if mode == Mode::Command || self.changes_session() {
            let exits = if mode == Mode::Command { 0 } else { MODES_MAX };
            let mut talk = self.talk.clone();
            let mut lines: VecDeque<Pending> =
                (0..exits).map(|_| "/exit".to_owned()).chain(talk.way_here()).map(Pending::quiet).collect();
            for mut pending in std::mem::take(&mut self.pending) {
                if pending.quiet {
                    continue;
                }
                let was_last_answer = talk.is_asked_for_members();
                if talk.follow(&pending.text) {
                    pending.tag = None;
                }
                lines.push_back(pending);
                if was_last_answer && talk.mode() == Mode::Group && !talk.is_asked_for_members() {
                    // If it was carried out before, it answers nothing now.
                    lines.extend(NO_QUESTION.map(|line| Pending::quiet(line.to_owned())));
                }
            }
            self.pending = lines;
        }
        self.go_on_with_lines();
    }

    pub(super) fn typed(&mut self, question: Question, line: &[u8]) {
        let expected = match self.phase {
            Phase::Name => Question::Name,
            Phase::Password => Question::Password,
            _ => Question::Line,
        };
        // In a pipe every line is what is needed just now. On a terminal a line may have been
        // entered at the very moment when a password was asked for: never mix the two up.
        let question = if self.rules.person { question } else { expected };
        let is_open = self.asking.take_if(|asking| *asking == question).is_some();
        if question == Question::Line && self.asking.is_none() {
            self.asked = self.asked.saturating_sub(1);
        }
        let text = if line.len() > TYPED_BYTES_MAX {
            Err(Refusal::LineTooLong { max: TYPED_BYTES_MAX })
        } else {
            line::text(line).map_err(|_| Refusal::NotUtf8)
        };
        match (question, text) {
            (Question::Line, Ok(text)) => self.typed_line(&text),
            (Question::Line, Err(refusal)) => {
                self.counted += 1;
                self.show(Notice::Refused(refusal));
                self.ask_lines();
            }
            (Question::Name, text) if is_open => self.typed_name(&text.unwrap_or_default()),
            (Question::Password, text) if is_open => self.typed_password(&text.unwrap_or_default()),
            _ => {}
        }
    }

    fn typed_line(&mut self, text: &str) {
        if self.log_out_count > 0 {
            return;
        }
        self.counted += 1;
        // A script that logs out at once still wants its answers, and what waited for it.
        if !self.rules.person && self.talk_to_come().request(text) == Some(Request::Logout) {
            (self.input_ended, self.log_out_count) = (true, self.counted);
            return self.log_out_when_done();
        }
        // Nothing but blanks is nothing, as with netcat; in group mode it can be an answer.
        if !is_blank(text) || self.talk_to_come().mode() == Mode::Group {
            self.queue(self.counted, text.to_owned());
        }
        self.ask_lines();
    }

    fn queue(&mut self, count: u64, text: String) {
        let mut pending = Pending::new(count, text);
        if !self.rules.person && count > 0 && (self.sharing.is_busy() || self.pending.iter().any(|other| other.own)) {
            pending.own |= ENDS.contains(&pending.word());
        }
        self.pending.push_back(pending);
        if self.returning.is_none() {
            self.send_lines();
        }
    }

    fn send_pending(&mut self, at: usize) {
        let (Some(pass), Some(pending)) = (self.pass, self.pending.get_mut(at)) else { return };
        let tag = *pending.tag.get_or_insert_with(|| {
            self.tagged += 1;
            Tag { session: pass.session, line: self.tagged }
        });
        pending.sent = true;
        self.effects.push(Effect::Send(Say::Typed { tag, line: &pending.text }.spell()));
    }

    /// Lets as many lines be typed as may be on their way.
    pub(super) fn ask_lines(&mut self) {
        let resumed = matches!(self.phase, Phase::Online | Phase::Pausing(_) | Phase::Connecting | Phase::Greeting)
            || matches!(self.phase, Phase::Recalling | Phase::Trying { token: true });
        let is_over = self.input_ended || self.leaving.is_some() || self.rules.errand.is_some();
        if self.user.is_none() || self.asking.is_some() || !resumed || is_over {
            return;
        }
        // The prompt of a person tells the mode.
        if self.rules.person && self.talk_to_come().prompt() != self.talk.prompt() {
            return;
        }
        let room = PENDING_MAX.saturating_sub(self.pending.len());
        let want = if self.rules.person { room.min(1) } else { room };
        while self.asked < want {
            self.asked += 1;
            self.effects.push(Effect::Ask(Question::Line));
        }
    }

    /// The session after all lines that have no answer yet.
    fn talk_to_come(&self) -> Talk {
        let mut talk = self.talk.clone();
        for pending in self.pending.iter().filter(|pending| !pending.quiet) {
            talk.follow(&pending.text);
        }
        talk
    }

    pub(super) fn input_ends(&mut self) {
        self.input_ended = true;
        if self.user.is_none() {
            // In a pipe, an answer on its way may be the welcome; a question would be the end.
            if self.rules.person || matches!(self.phase, Phase::Name | Phase::Password) {
                self.end(End::input_too_short(self.refused, self.rules.person));
            }
        } else if self.phase == Phase::Online {
            self.log_out_when_done();
        } else if self.rules.person {
            self.end(End::broken("not connected when the input ended"));
        }
    }

    /// At the end of the input, with every answer there: leave as one would by hand. Out of a
    /// pipe, only when what waited for us has come, is displayed and confirmed.
    fn log_out_when_done(&mut self) {
        if !self.input_ended || !self.pending.is_empty() || self.phase != Phase::Online || self.returning.is_some() {
            return;
        }
        if self.rules.person {
            self.leaving = Some((self.now.elapsed + FAREWELL_MAX, false));
        } else if self.awaits_private() || self.sharing.is_busy() {
            return;
        } else if self.fenced == Fence::None {
            self.fenced = Fence::Asked;
            return self.say_and_wait(Say::Ping);
        } else if self.fenced == Fence::Asked || !(self.on_the_way.is_empty() && self.receipts_on_the_way.is_empty()) {
            return;
        }
        self.queue(self.log_out_count, LOG_OUT.to_owned());
    }

    pub(super) fn leave(&mut self) {
        if self.phase != Phase::Online || matches!(self.leaving, Some((_, true))) {
            return self.end(End::interrupted());
        }
        self.leaving = Some((self.now.elapsed + FAREWELL_MAX, true));
        // Lines that wait for another client do not keep the user here.
        if self.returning.is_none() {
            self.pending.retain(|pending| pending.sent);
        }
        self.queue(0, LOG_OUT.to_owned());
    }

    /// What the server says after the welcome.
    pub(super) fn hear_online(&mut self, notice: Notice) {
        if self.rules.errand.is_some() {
            return self.hear_on_errand(notice);
        }
        self.learn(&notice);
        match notice {
            Notice::Mode(mode) if self.returning.is_some() => self.returning = Some(mode),
            notice if self.is_known_answer(&notice) => {}
            Notice::Said(letter) => self.show_letter(letter),
            Notice::SeenMeanwhile { ref by, .. } => {
                let by = by.clone();
                self.show_receipt(by, notice);
            }
            Notice::Done(tag) => self.done(tag),
            Notice::Pong => {
                if let Some(mode) = self.returning {
                    return self.go_on(mode);
                }
                if self.fenced == Fence::Asked {
                    self.fenced = Fence::Passed;
                }
                self.log_out_when_done();
            }
            Notice::Hello { .. } | Notice::AskName | Notice::AskPassword | Notice::Welcome { .. } => {
                self.end(End::not_understood("a log-in after the log-in"));
            }
            notice => {
                if let Some(notice) = self.hear_of_files(notice)
                    && let Some(notice) = self.hear_of_private(notice)
                {
                    self.show(notice);
                }
                self.go_on_with_lines();
            }
        }
    }

    /// `client send` needs nothing of other clients.
    fn is_sending(&self) -> bool {
        self.rules.errand.as_ref().is_some_and(|errand| matches!(errand.task, Task::Send { .. }))
    }

    /// Leaves as a script does that is done.
    pub(super) fn log_out(&mut self) {
        self.queue(0, LOG_OUT.to_owned());
    }

    /// Everything but the answer to our message waits for somebody who reads it.
    fn hear_on_errand(&mut self, notice: Notice) {
        let notice = match self.hear_of_files(notice) {
            Some(Notice::Expect { user, ticket, purpose }) => return self.expect(user, ticket, purpose),
            Some(notice) => notice,
            None => return,
        };
        match notice {
            Notice::Done(tag) => {
                self.pending.retain(|pending| pending.tag != Some(tag));
                if self.pending.is_empty() {
                    self.queue(0, LOG_OUT.to_owned());
                }
            }
            Notice::Stored { .. } => self.show(notice),
            Notice::Refused(refusal) => {
                let code = match refusal {
                    Refusal::InvalidUser(_)
                    | Refusal::Blocked(_)
                    | Refusal::MailboxFull(_)
                    | Refusal::Yourself(_)
                    | Refusal::Usage(_) => Code::RecipientRefused,
                    _ => Code::Other,
                };
                self.errand_end.get_or_insert(End::refused(code, refusal));
            }
            _ => {}
        }
    }

    /// Whether it answers a line that the client has repeated for itself.
    fn is_known_answer(&self, notice: &Notice) -> bool {
        let is_answer = matches!(
            notice,
            Notice::Mode(_)
                | Notice::Asked(_)
                | Notice::Groups(_)
                | Notice::NoGroups
                | Notice::Members { .. }
                | Notice::Receipts { .. }
                | Notice::Refused(_)
        );
        is_answer && self.pending.front().is_some_and(|pending| pending.quiet)
    }

    /// The server tells again of what it does not know to have been shown.
    fn show_receipt(&mut self, by: UserName, notice: Notice) {
        if self.receipts.get(&by) != Some(&notice) {
            self.receipts.insert(by.clone(), notice.clone());
            self.show(notice);
            self.receipts_on_the_way.push_back((self.marks, by));
        } else if self.receipts_on_the_way.iter().all(|(_, other)| *other != by) {
            self.say(Say::Told(by.as_str()));
        }
    }

    fn show_letter(&mut self, letter: Letter) {
        let number = letter.number;
        if number != 0 && number <= self.taken {
            return;
        }
        self.show(Notice::Said(letter));
        if number != 0 {
            self.taken = number;
            self.on_the_way.push_back((self.marks, number));
        }
    }

    /// Confirms what the screen has displayed, once for all that was displayed together.
    pub(super) fn displayed(&mut self, mark: u64) {
        while let Some((_, by)) = self.receipts_on_the_way.pop_front_if(|(at, _)| *at <= mark) {
            // On a dead link it is lost, and the server tells of the receipt again.
            if self.phase == Phase::Online {
                self.say(Say::Told(by.as_str()));
            }
        }
        let mut highest = None;
        while let Some(&(at, number)) = self.on_the_way.front()
            && at <= mark
        {
            self.on_the_way.pop_front();
            highest = Some(number);
        }
        if let Some(number) = highest {
            self.displayed = number;
            self.effects.push(Effect::Remember(self.reader(), number));
        }
        if self.phase == Phase::Online {
            if highest.is_some() {
                self.confirm();
            }
            self.log_out_when_done();
        }
    }

    fn confirm(&mut self) {
        self.told = self.displayed;
        self.say(Say::Seen(self.displayed));
    }

    fn done(&mut self, tag: Tag) {
        let Some(at) = self.pending.iter().position(|pending| pending.tag == Some(tag)) else { return };
        self.first_page = true;
        let (question, is_settled) = (self.question.take(), std::mem::take(&mut self.group_is_settled));
        if let Some(pending) = self.pending.remove(at) {
            if !pending.quiet {
                self.carried_out(&pending.text, question, is_settled);
            }
            if pending.count > 0 {
                self.put(Shown::Done(pending.count));
            }
        }
        self.ask_lines();
        self.go_on_with_lines();
    }

    /// Follows an answered line to what the session is now.
    fn carried_out(&mut self, line: &str, question: Option<wire::Question>, is_settled: bool) {
        let group = self.talk.group.clone();
        self.follow_talk(|talk| {
            talk.follow(line);
            if is_settled {
                talk.group = group;
            }
            if let Some(question) = question {
                talk.asked(question);
            }
        });
    }

    fn follow_talk(&mut self, change: impl FnOnce(&mut Talk)) {
        let before = self.talk.clone();
        change(&mut self.talk);
        let (mode, group) = self.talk.prompt();
        if before.prompt() != (mode, group) {
            self.effects.push(Effect::Mode(mode, group.cloned()));
        }
    }

    /// Who is here, as far as it can be told from what comes, and which groups there are.
    fn learn(&mut self, notice: &Notice) {
        match notice {
            Notice::Arrived(user) | Notice::Online { user, .. } => self.present(user, true),
            Notice::Said(Letter { from, road, scope, .. }) => {
                if *road == Road::Live {
                    self.present(from, true);
                }
                if let Scope::Group(group) = scope {
                    self.member(group, true);
                }
            }
            Notice::Left(user) | Notice::Offline { user, .. } | Notice::NeverOnline(user) => self.present(user, false),
            Notice::Stored { to, .. } => self.present(to, false),
            Notice::Names(users) if self.is_whoelse() => {
                if std::mem::take(&mut self.first_page) {
                    self.forget_all();
                }
                users.iter().for_each(|user| self.present(user, true));
            }
            Notice::Nobody if self.is_whoelse() => self.forget_all(),
            Notice::Groups(groups) => {
                if std::mem::take(&mut self.first_page) {
                    self.forget_groups();
                }
                groups.iter().for_each(|membership| self.member(&membership.group, true));
            }
            Notice::NoGroups => self.forget_groups(),
            Notice::Group { group, by, news } => self.learn_news(group, by, news),
            Notice::Asked(question) => self.question = Some(*question),
            Notice::Refused(refusal) => {
                self.group_is_settled = true;
                if let Refusal::NotMember(group) = refusal {
                    self.member(group, false);
                }
            }
            _ => {}
        }
    }

    fn learn_news(&mut self, group: &GroupName, by: &UserName, news: &News) {
        let is_mine = self.user.as_ref() == Some(by);
        let is_over = match news {
            News::Removed(users) => users.iter().any(|user| self.user.as_ref() == Some(user)),
            News::Left => is_mine,
            News::Renamed(_) | News::Deleted => true,
            News::Created(_) | News::Added(_) | News::Owned(_) => false,
        };
        self.member(group, !is_over);
        let name = match news {
            News::Renamed(to) => Some(to.clone()),
            _ => (!is_over).then(|| group.clone()),
        };
        if let News::Renamed(to) = news {
            self.member(to, true);
        }
        self.group_is_settled |= is_mine;
        if is_mine || self.talk.group.as_ref() == Some(group) {
            self.follow_talk(|talk| talk.group = name);
        }
    }

    /// Whether the answers that come now are those to `whoelse`.
    fn is_whoelse(&self) -> bool {
        self.answered() == Some(Request::WhoElse)
    }

    /// Whether they are those to `startprivate`.
    pub(super) fn is_startprivate(&self) -> bool {
        matches!(self.answered(), Some(Request::StartPrivate { .. }))
    }

    /// What is being answered: answers keep the order of lines.
    fn answered(&self) -> Option<Request<'_>> {
        let first = self.pending.iter().find(|pending| pending.tag.is_some())?;
        self.talk.request(&first.text)
    }

    fn present(&mut self, user: &UserName, here: bool) {
        let changed = if here { self.present.insert(user.clone()) } else { self.present.remove(user) };
        if changed {
            self.effects.push(Effect::Present(user.clone(), here));
        }
    }

    fn member(&mut self, group: &GroupName, is_in: bool) {
        let changed = if is_in { self.groups.insert(group.clone()) } else { self.groups.remove(group) };
        if changed {
            self.effects.push(Effect::Member(group.clone(), is_in));
        }
    }

    pub(super) fn forget_groups(&mut self) {
        for group in std::mem::take(&mut self.groups) {
            self.effects.push(Effect::Member(group, false));
        }
    }

    fn forget_all(&mut self) {
        self.present.clear();
        self.effects.push(Effect::NobodyPresent);
    }
}
