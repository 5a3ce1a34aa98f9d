//! The person at the clients without a line port: signals, the line editor or a pipe, and the
//! screen around one mind.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use super::keyboard::{self, Asked, Desk, Desktop};
use super::screen::{self, Look, Outlet, can_edit};
use super::state::complete::Offer;
use super::state::told::Told;
use super::state::{End, Question};
use super::{Input, KNOCK_EVERY, Knocker, Memory, THINGS_MAX, listen_to_signals};
use crate::clock::Clock;

/// The person, as the hands of a client see him.
pub(super) struct Console {
    /// What comes from him.
    pub(super) inputs: Receiver<Input>,
    pub(super) clock: Clock,
    desk: Arc<Desk>,
    knocker: Arc<Knocker>,
    questions: Option<Sender<Asked>>,
    /// A question has no answer yet.
    asked: bool,
    /// Closed when the typing thread has left the editor; `None` without an editor.
    editor_left: Option<Receiver<()>>,
    things: Option<Sender<(u64, Told)>>,
    screen: JoinHandle<Option<String>>,
    /// Under which name the history is kept.
    user: &'static str,
}

/// Runs a client to its end: `drive` is its loop. What is typed is kept under `user`.
pub(super) fn run(
    look: Look,
    memory: Memory,
    user: &'static str,
    drive: impl FnOnce(&mut Console) -> End + Send + 'static,
) -> io::Result<End> {
    let clock = Clock::start();
    let desk = Arc::new(Desk::default());
    if let Ok(mut offer) = desk.offer.lock() {
        *offer = Some(Offer { prompt: "> ".to_owned(), commands: Vec::new() });
    }
    let edits = can_edit() && !look.json;
    let (inputs, from_inputs) = unbounded();
    let (questions, from_questions) = unbounded();
    let knocker = Arc::new(Knocker { clock, desk: Arc::clone(&desk), last: AtomicI64::new(i64::MIN) });
    listen_to_signals(&inputs, &knocker, edits)?;
    let (things, from_things) = bounded(THINGS_MAX);
    let mut desktop = if edits { Some(Desktop::new(&desk, memory).map_err(io::Error::other)?) } else { None };
    let outlet = match &mut desktop {
        Some(desktop) => Outlet::Editor(desktop.printer().map_err(io::Error::other)?),
        None => Outlet::Plain,
    };
    let screen = screen::start_told(look, outlet, from_things, inputs.clone())?;
    let (left_editor, editor_left) = bounded::<()>(1);
    let mut console = Console {
        inputs: from_inputs,
        clock,
        desk: Arc::clone(&desk),
        knocker,
        questions: Some(questions),
        asked: false,
        editor_left: edits.then_some(editor_left),
        things: Some(things),
        screen,
        user,
    };
    let converse = move || {
        let end = drive(&mut console);
        console.finish();
        end
    };
    let Some(desktop) = desktop else {
        let desk = Arc::clone(&desk);
        let read = move || keyboard::read_lines(&from_questions, &inputs, &desk);
        thread::Builder::new().name("keyboard".into()).spawn(read)?;
        return Ok(converse());
    };
    let mind = thread::Builder::new().name("mind".into()).spawn(converse)?;
    desktop.answer(&from_questions, &inputs);
    drop(left_editor);
    mind.join().map_err(|_| io::Error::other("a thread of the client died"))
}

impl Console {
    /// Shows something; without a screen the program is at its end.
    pub(super) fn show(&self, told: Told) {
        self.show_marked(0, told);
    }

    /// The same, reported by its mark when it is on the screen.
    pub(super) fn show_marked(&self, mark: u64, told: Told) {
        if let Some(things) = &self.things {
            let _ = things.send((mark, told));
        }
    }

    /// Offers this with the Tab key, under this prompt.
    pub(super) fn offer(&self, offer: Offer) {
        if let Ok(mut place) = self.desk.offer.lock() {
            *place = Some(offer);
        }
    }

    /// Lets the next line be typed; in the editor also the one that is being typed, under another
    /// prompt.
    pub(super) fn ask(&mut self) {
        self.ask_for(Question::Line);
    }

    /// The same for what is not a line of the talk.
    pub(super) fn ask_for(&mut self, question: Question) {
        let overtakes = std::mem::replace(&mut self.asked, true);
        if overtakes && self.editor_left.is_none() {
            return;
        }
        let Some(questions) = &self.questions else { return };
        // The typing thread is at its end if nobody takes the question.
        let _ = questions.send(Asked { question, user: Some(self.user.to_owned()) });
        if let Some(left) = &self.editor_left
            && overtakes
        {
            while !questions.is_empty() && left.try_recv() == Err(TryRecvError::Empty) {
                self.knocker.knock();
                let _ = left.recv_timeout(KNOCK_EVERY);
            }
        }
    }

    /// What was asked for has been typed.
    pub(super) fn answered(&mut self) {
        self.asked = false;
    }

    /// Gets the typing thread out of the editor, then shows what is left.
    fn finish(mut self) {
        self.desk.ended.store(true, Ordering::SeqCst);
        self.questions = None;
        self.things = None;
        if let Some(left) = &self.editor_left {
            while left.recv_timeout(KNOCK_EVERY) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                self.knocker.knock();
            }
        }
        if let Ok(Some(text)) = self.screen.join() {
            // With standard output closed there is nobody left to tell.
            let _ = screen::write_out(&text);
        }
    }
}
