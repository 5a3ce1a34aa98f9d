//! Logged in: typed lines on their way there, and what comes back onto the screen.

use super::{Code, Effect, End, FAREWELL_MAX, Fence, PAUSES, PING_EVERY, Phase, Question, Shown, State};
use crate::wire::control::Say;
use crate::wire::line::{self, LINE_BYTES_MAX};
use crate::wire::name::UserName;
use crate::wire::{Letter, Notice, Pass, Refusal, Request, Road, Tag, command};

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
        match self.outage.take() {
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
        for at in 0..self.pending.len() {
            self.send_pending(at);
        }
        match &self.rules.errand {
            Some(errand) if first => {
                let line = format!("message {} {}", errand.to, errand.text);
                self.queue(0, line);
            }
            Some(_) => {}
            None => self.ask_lines(),
        }
        self.log_out_when_done();
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
        if question == expected {
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
            (Question::Name, text) if expected == Question::Name => {
                self.typed_name(&text.unwrap_or_default());
            }
            (Question::Password, text) if expected == Question::Password => {
                self.typed_password(&text.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn typed_line(&mut self, text: &str) {
        self.counted += 1;
        // Nothing but blanks is nothing, as with netcat.
        if !text.trim_matches([' ', '\t']).is_empty() {
            self.queue(self.counted, text.to_owned());
        }
        self.ask_lines();
    }

    fn queue(&mut self, count: u64, text: String) {
        self.pending.push_back(Pending { tag: None, count, text });
        if self.phase == Phase::Online {
            self.send_pending(self.pending.len() - 1);
        }
    }

    fn send_pending(&mut self, at: usize) {
        let (Some(pass), Some(pending)) = (self.pass, self.pending.get_mut(at)) else { return };
        let tag = *pending.tag.get_or_insert_with(|| {
            self.tagged += 1;
            Tag { session: pass.session, line: self.tagged }
        });
        self.effects.push(Effect::Send(Say::Typed { tag, line: &pending.text }.spell()));
    }

    /// Lets as many lines be typed as may be on their way.
    fn ask_lines(&mut self) {
        let resumed = matches!(self.phase, Phase::Online | Phase::Pausing(_) | Phase::Connecting | Phase::Greeting)
            || matches!(self.phase, Phase::Recalling | Phase::Trying { token: true });
        if self.user.is_none() || !resumed || self.input_ended || self.leaving.is_some() {
            return;
        }
        let room = PENDING_MAX.saturating_sub(self.pending.len());
        let want = if self.rules.person { room.min(1) } else { room };
        while self.asked < want {
            self.asked += 1;
            self.effects.push(Effect::Ask(Question::Line));
        }
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
        if !self.input_ended || !self.pending.is_empty() || self.phase != Phase::Online {
            return;
        }
        if self.rules.person {
            self.leaving = Some((self.now.elapsed + FAREWELL_MAX, false));
        } else if self.fenced == Fence::None {
            self.fenced = Fence::Asked;
            return self.say_and_wait(Say::Ping);
        } else if self.fenced == Fence::Asked || !self.on_the_way.is_empty() {
            return;
        }
        self.queue(0, "logout".to_owned());
    }

    pub(super) fn leave(&mut self) {
        if self.phase != Phase::Online || matches!(self.leaving, Some((_, true))) {
            return self.end(End::interrupted());
        }
        self.leaving = Some((self.now.elapsed + FAREWELL_MAX, true));
        self.queue(0, "logout".to_owned());
    }

    /// What the server says after the welcome.
    pub(super) fn hear_online(&mut self, notice: Notice) {
        if self.rules.errand.is_some() {
            return self.hear_on_errand(notice);
        }
        self.learn(&notice);
        match notice {
            Notice::Said(letter) => self.show_letter(letter),
            Notice::SeenMeanwhile { ref by, .. } => {
                let by = by.clone();
                self.show(notice);
                self.receipts_on_the_way.push_back((self.marks, by));
            }
            Notice::Done(tag) => self.done(tag),
            Notice::Pong => {
                if self.fenced == Fence::Asked {
                    self.fenced = Fence::Passed;
                }
                self.log_out_when_done();
            }
            Notice::Hello { .. } | Notice::AskName | Notice::AskPassword | Notice::Welcome { .. } => {
                self.end(End::not_understood("a log-in after the log-in"));
            }
            notice => self.show(notice),
        }
    }

    /// Everything but the answer to our message waits for somebody who reads it.
    fn hear_on_errand(&mut self, notice: Notice) {
        match notice {
            Notice::Done(tag) => {
                self.pending.retain(|pending| pending.tag != Some(tag));
                if self.pending.is_empty() {
                    self.queue(0, "logout".to_owned());
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
        let Some(number) = highest else { return };
        self.displayed = number;
        self.effects.push(Effect::Remember(self.reader(), number));
        if self.phase == Phase::Online {
            self.confirm();
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
        if let Some(pending) = self.pending.remove(at)
            && pending.count > 0
        {
            self.put(Shown::Done(pending.count));
        }
        self.ask_lines();
        self.log_out_when_done();
    }

    /// Who is here, as far as it can be told from what comes.
    fn learn(&mut self, notice: &Notice) {
        match notice {
            Notice::Arrived(user) | Notice::Online { user, .. } => self.present(user, true),
            Notice::Said(Letter { from, road: Road::Live, .. }) => self.present(from, true),
            Notice::Left(user) | Notice::Offline { user, .. } | Notice::NeverOnline(user) => self.present(user, false),
            Notice::Stored { to, .. } => self.present(to, false),
            Notice::Names(users) if self.is_whoelse() => {
                if std::mem::take(&mut self.first_page) {
                    self.forget_all();
                }
                users.iter().for_each(|user| self.present(user, true));
            }
            Notice::Nobody if self.is_whoelse() => self.forget_all(),
            _ => {}
        }
    }

    /// Whether the answers that come now are those to `whoelse`: answers keep the order of lines.
    fn is_whoelse(&self) -> bool {
        let first = self.pending.iter().find(|pending| pending.tag.is_some());
        first.is_some_and(|pending| matches!(command::parse(&pending.text), Ok(Request::WhoElse)))
    }

    fn present(&mut self, user: &UserName, here: bool) {
        let changed = if here { self.present.insert(user.clone()) } else { self.present.remove(user) };
        if changed {
            self.effects.push(Effect::Present(user.clone(), here));
        }
    }

    fn forget_all(&mut self) {
        self.present.clear();
        self.effects.push(Effect::NobodyPresent);
    }
}
