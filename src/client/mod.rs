//! The hands of the client: threads around [`state`], the mind.
//!
//! * `link`: makes the connection and reads it. It ends with the connection.
//! * `keyboard`: reads what is typed. On a terminal this is the main thread, because a signal
//!   finds it there in whatever it waits; out of a pipe it is a thread that the end of the
//!   process ends, for nothing else interrupts a read from a pipe.
//! * `mind`: `Hands::drive`, which carries out what [`state::State`] decides. Out of a pipe this is
//!   the main thread. It sends to the server itself: what a person types is little.
//! * `screen`: the only thread that prints. It ends when the mind has.
//! * `peers`: the threads for connections to other clients; see there.
//! * `depot`: the threads for files; see there.
//!
//! Two clients have no line port: `direct` and `udp` are hands of their own, with a mind each and
//! `console` for the person.
//!
//! The program never ends while the line editor is active: the mind keeps what is left to be
//! shown, raises SIGINT on its own process, and waits until the editor has been left.

mod console;
mod depot;
pub mod direct;
pub mod exchange;
mod files;
mod json;
mod keyboard;
mod link;
mod memory;
mod peers;
mod screen;
pub mod state;
mod transfer;
pub mod udp;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use rustix::process::{Signal, getpid, kill_process};

pub use files::Folder;
pub use link::{Family, Target};
pub use memory::Memory;
pub use screen::{Look, can_edit, complain, remark};
pub use state::{Code, End, Errand, Task};

use crate::clock::Clock;
use depot::Depot;
use keyboard::{Asked, Desk, Desktop};
use link::News;
use peers::{PeerNews, Peers};
use screen::Outlet;
use state::complete::Known;
use state::{Effect, Event, PeerEvent, Question, Rules, Shown, State, sharing};

/// What the user wants.
#[derive(Debug)]
pub struct Options {
    /// Where the server is.
    pub target: Target,
    /// Where to remember what was shown, typed and offered.
    pub memory: Memory,
    /// How things look.
    pub look: Look,
    /// Get a lost connection back.
    pub reconnect: bool,
    /// Start in general mode.
    pub chat: bool,
    /// One thing and out.
    pub errand: Option<Errand>,
    /// Where files are shared from and fetched to.
    pub folder: Folder,
}

/// What reaches the mind besides news of the connection.
#[derive(Debug)]
enum Input {
    Typed(Question, Vec<u8>),
    Ended,
    Leave,
    Displayed(u64),
    OutputClosed(Option<String>),
}

/// News of a connection, with its number.
type Numbered = (u64, News);

/// Reads of the connection that may wait for the mind; then TCP holds the server back.
const NEWS_MAX: usize = 64;

/// Things that may wait for the screen; then the mind waits, and with it the connection.
const THINGS_MAX: usize = 4096;

/// Between two signals to a typing thread that has not heard the first.
const KNOCK_EVERY: Duration = Duration::from_millis(50);

/// For so long after a knock, a signal counts as its echo, in milliseconds.
const ECHO_MAX: i64 = 200;

/// Runs the client to its end.
pub fn run(options: Options) -> io::Result<End> {
    let clock = Clock::start();
    let desk = Arc::new(Desk::default());
    let edits = can_edit() && !options.look.json && options.errand.is_none();
    let (inputs, from_inputs) = unbounded();
    let (questions, from_questions) = unbounded();
    let knocker = Arc::new(Knocker { clock, desk: Arc::clone(&desk), last: AtomicI64::new(i64::MIN) });
    listen_to_signals(&inputs, &knocker, edits)?;
    let rules = Rules {
        person: options.errand.is_none() && io::stdin().is_terminal(),
        reconnect: options.reconnect,
        chat: options.chat,
        errand: options.errand.clone(),
    };
    let (depot, from_files) = Depot::new(clock, options.folder);
    let link = (options.target, options.memory.clone());
    let mut hands = Hands::new(clock, link, Arc::clone(&desk), questions, knocker, (depot.clone(), from_files));
    // Set once, here.
    let _ = desk.depot.set(depot);
    let end = if edits {
        let mut desktop = Desktop::new(&desk, options.memory).map_err(io::Error::other)?;
        let outlet = Outlet::Editor(desktop.printer().map_err(io::Error::other)?);
        let (left_editor, editor_left) = bounded::<()>(1);
        hands.editor_left = Some(editor_left);
        let screen = hands.start_screen(options.look, outlet, &inputs)?;
        let mind =
            thread::Builder::new().name("mind".into()).spawn(move || hands.drive(rules, &from_inputs, screen))?;
        desktop.answer(&from_questions, &inputs);
        drop(left_editor);
        mind.join().map_err(|_| io::Error::other("a thread of the client died"))?
    } else {
        let screen = hands.start_screen(options.look, Outlet::Plain, &inputs)?;
        if rules.errand.is_none() {
            let desk = Arc::clone(&desk);
            let read = move || keyboard::read_lines(&from_questions, &inputs, &desk);
            thread::Builder::new().name("keyboard".into()).spawn(read)?;
        }
        hands.drive(rules, &from_inputs, screen)
    };
    desk.unhide();
    Ok(end)
}

/// Wakes the typing thread out of the editor.
#[derive(Debug)]
struct Knocker {
    clock: Clock,
    desk: Arc<Desk>,
    /// When it was done last.
    last: AtomicI64,
}

impl Knocker {
    fn knock(&self) {
        self.last.store(self.clock.now().elapsed, Ordering::SeqCst);
        // Sending a signal to oneself cannot fail.
        let _ = kill_process(getpid(), Signal::INT);
    }

    /// Whether a signal that comes now may be our own, which came too late for the editor.
    fn is_echo(&self) -> bool {
        let since = self.clock.now().elapsed.saturating_sub(self.last.load(Ordering::SeqCst));
        self.desk.ended.load(Ordering::SeqCst) || since < ECHO_MAX
    }
}

/// A first signal logs out. While the editor is active, it gets Ctrl-C itself.
fn listen_to_signals(inputs: &Sender<Input>, knocker: &Arc<Knocker>, edits: bool) -> io::Result<()> {
    let (inputs, knocker, again) = (inputs.clone(), Arc::clone(knocker), AtomicBool::new(false));
    let heard = move || {
        if knocker.is_echo() && edits {
            return;
        }
        if again.swap(true, Ordering::SeqCst) && !edits {
            knocker.desk.unhide();
            #[allow(
                clippy::disallowed_methods,
                reason = "the second signal asks for just this, and no editor is active"
            )]
            std::process::exit(i32::from(Code::Interrupted as u8));
        }
        drop(inputs.send(Input::Leave));
    };
    ctrlc::set_handler(heard).map_err(io::Error::other)
}

/// What carries out the effects.
struct Hands {
    clock: Clock,
    target: Target,
    memory: Memory,
    desk: Arc<Desk>,
    knocker: Arc<Knocker>,
    questions: Option<Sender<Asked>>,
    /// A question has no answer yet.
    asked: bool,
    /// Closed when the typing thread has left the editor; `None` without an editor.
    editor_left: Option<Receiver<()>>,
    things: Option<Sender<(u64, Shown)>>,
    news: (Sender<Numbered>, Receiver<Numbered>),
    peers: Peers,
    from_peers: Receiver<PeerNews>,
    depot: Depot,
    from_files: Receiver<sharing::Event>,
    /// The connection in use, and its number.
    stream: Option<Arc<TcpStream>>,
    number: u64,
    user: Option<String>,
    unsent: Vec<u8>,
    end: Option<End>,
}

impl Hands {
    fn new(
        clock: Clock,
        (target, memory): (Target, Memory),
        desk: Arc<Desk>,
        questions: Sender<Asked>,
        knocker: Arc<Knocker>,
        (depot, from_files): (Depot, Receiver<sharing::Event>),
    ) -> Self {
        let (peers, from_peers) = Peers::new(depot.work());
        Self {
            clock,
            target,
            memory,
            desk,
            knocker,
            questions: Some(questions),
            asked: false,
            editor_left: None,
            things: None,
            news: bounded(NEWS_MAX),
            peers,
            from_peers,
            depot,
            from_files,
            stream: None,
            number: 0,
            user: None,
            unsent: Vec::new(),
            end: None,
        }
    }

    fn start_screen(
        &mut self,
        look: Look,
        outlet: Outlet,
        inputs: &Sender<Input>,
    ) -> io::Result<JoinHandle<Option<String>>> {
        let (things, from_things) = bounded(THINGS_MAX);
        self.things = Some(things);
        screen::start(look, outlet, from_things, inputs.clone())
    }

    /// The loop of the mind: wait, decide, do.
    fn drive(mut self, rules: Rules, inputs: &Receiver<Input>, screen: JoinHandle<Option<String>>) -> End {
        let mut state = State::new(rules, self.clock.now());
        self.handle(&mut state, Event::Start);
        let (news, from_peers, from_files) = (self.news.1.clone(), self.from_peers.clone(), self.from_files.clone());
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            let wait = state.deadline().map(|at| self.clock.at(at));
            let timer = wait.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            select! {
                recv(inputs) -> input => match input {
                    Ok(input) => self.take_input(&mut state, input),
                    Err(_) => self.handle(&mut state, Event::EndOfInput),
                },
                recv(news) -> item => {
                    if let Ok((number, item)) = item
                        && number == self.number
                    {
                        self.take_news(&mut state, item);
                    }
                }
                recv(from_peers) -> item => {
                    if let Ok(item) = item
                        && let Some((peer, event)) = self.peers.take(item)
                    {
                        self.handle(&mut state, Event::Peer(peer, event));
                    }
                }
                recv(from_files) -> event => {
                    if let Ok(event) = event {
                        self.handle(&mut state, Event::Files(event));
                    }
                }
                // What has come is looked at first: an answer that waits is no silence.
                recv(timer) -> _ => if news.is_empty() {
                    self.handle(&mut state, Event::Tick);
                },
            }
        };
        // Threads that still have news must not wait for somebody who takes them.
        drop(from_peers);
        self.finish(&mut state, screen);
        end
    }

    fn take_input(&mut self, state: &mut State, input: Input) {
        match input {
            Input::Typed(question, line) => {
                self.asked = false;
                self.handle(state, Event::Typed(question, &line));
            }
            Input::Ended => self.handle(state, Event::EndOfInput),
            Input::Leave => self.handle(state, Event::Leave),
            Input::Displayed(mark) => self.handle(state, Event::Displayed(mark)),
            Input::OutputClosed(why) => self.handle(state, Event::OutputClosed(why)),
        }
    }

    fn take_news(&mut self, state: &mut State, news: News) {
        match news {
            News::Up(stream) => {
                self.stream = Some(stream);
                self.handle(state, Event::Connected);
            }
            News::Down(why) => self.handle(state, Event::NotConnected(why)),
            News::Lines(lines) => {
                for line in lines.strip_suffix(b"\n").unwrap_or(&lines).split(|&byte| byte == b'\n') {
                    if self.stream.is_some() {
                        self.handle(state, Event::Line(line));
                    }
                }
            }
            News::Overlong => self.handle(state, Event::Overlong),
            News::Ended(why) => {
                self.close();
                self.handle(state, Event::Lost(why));
            }
        }
    }

    /// Lets the mind decide, and carries out what follows until nothing follows any more.
    fn handle(&mut self, state: &mut State, event: Event<'_>) {
        let mut effects = Vec::new();
        state.handle(self.clock.now(), event, &mut effects);
        for effect in effects {
            if let Some(event) = self.carry_out(effect) {
                self.handle(state, event);
            }
        }
        self.send();
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event<'static>> {
        match effect {
            Effect::Connect => {
                self.number += 1;
                let opened = link::open(self.target.clone(), self.number, self.news.0.clone());
                return opened.err().map(|error| Event::NotConnected(error.to_string()));
            }
            Effect::Disconnect => self.close(),
            Effect::Send(line) => {
                self.unsent.extend_from_slice(line.as_bytes());
                self.unsent.push(b'\n');
            }
            Effect::Recall(reader) => return Some(Event::Recalled(self.memory.shown(&reader))),
            // A number that cannot be kept is a message that may be shown again, no more.
            Effect::Remember(reader, number) => drop(self.memory.keep_shown(&reader, number)),
            Effect::Ask(question) => self.ask(question),
            Effect::Show(mark, shown) => {
                if let Shown::Notice(crate::wire::Notice::Welcome { user, .. }, _) = &shown {
                    self.user = Some(user.as_str().to_owned());
                }
                // Without a screen the program is at its end.
                if let Some(things) = &self.things {
                    let _ = things.send((mark, shown));
                }
            }
            Effect::Present(user, here) => self.know(|known| known.user(user, here)),
            Effect::NobodyPresent => self.know(|known| known.users.clear()),
            Effect::Member(group, is_in) => self.know(|known| known.group(group, is_in)),
            Effect::Mode(mode, group) => self.know(|known| (known.mode, known.last_group) = (mode, group)),
            Effect::Listen => return Some(Event::Listening(self.listen())),
            Effect::Dial(peer, at) => {
                let dialled = self.peers.dial(peer, at);
                return dialled.err().map(|_| Event::Peer(peer, PeerEvent::Ended));
            }
            Effect::Tell(peer, frame) => {
                let is_taken = self.peers.tell(peer, &frame);
                return (!is_taken).then_some(Event::Peer(peer, PeerEvent::Full));
            }
            Effect::Proven(peer, user, purpose) => self.peers.proven(peer, user, purpose),
            Effect::HangUp(peer) => self.peers.hang_up(peer),
            Effect::Partner(user, is_one) => self.know(|known| known.partner(user, is_one)),
            Effect::Do(chore) => self.depot.do_chore(chore),
            Effect::Known(file) => self.know(|known| known.file(file)),
            Effect::RecallOffered(reader) => {
                return Some(Event::Offered(self.memory.offered(&reader, self.depot.place())));
            }
            // What cannot be kept is offered in this run alone.
            Effect::KeepOffered(reader, offered) => {
                drop(self.memory.keep_offered(&reader, self.depot.place(), &offered));
            }
            Effect::End(end) => self.end = Some(end),
        }
        None
    }

    /// Where the server sees us, others can too.
    fn listen(&mut self) -> Result<u16, String> {
        let Some(stream) = &self.stream else { return Err("there is no connection".to_owned()) };
        let port = stream.local_addr().and_then(|at| self.peers.listen(at));
        port.map_err(|error| error.to_string())
    }

    fn know(&self, learn: impl FnOnce(&mut Known)) {
        if let Ok(mut known) = self.desk.known.lock() {
            learn(&mut known);
        }
    }

    fn ask(&mut self, question: Question) {
        let overtakes = std::mem::replace(&mut self.asked, true);
        let Some(questions) = &self.questions else { return };
        // The typing thread is at its end if nobody takes the question.
        let _ = questions.send(Asked { question, user: self.user.clone() });
        if let Some(left) = &self.editor_left
            && overtakes
        {
            while !questions.is_empty() && matches!(left.try_recv(), Err(crossbeam_channel::TryRecvError::Empty)) {
                self.knocker.knock();
                let _ = left.recv_timeout(KNOCK_EVERY);
            }
        }
    }

    /// Sends what the last effects left to be sent, in one piece.
    fn send(&mut self) {
        let bytes = std::mem::take(&mut self.unsent);
        let Some(stream) = &self.stream else { return };
        if bytes.is_empty() {
            return;
        }
        if let Err(error) = (&**stream).write_all(&bytes)
            && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        {
            // The reader hears the end; any other error it hears by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn close(&mut self) {
        self.unsent.clear();
        if let Some(stream) = self.stream.take() {
            // Fails only if the other end was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.number += 1;
    }

    /// Gets the typing thread out of the editor, then shows what is left.
    fn finish(mut self, state: &mut State, screen: JoinHandle<Option<String>>) {
        self.desk.ended.store(true, Ordering::SeqCst);
        self.questions = None;
        self.things = None;
        if let Some(left) = &self.editor_left {
            while left.recv_timeout(KNOCK_EVERY) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                self.knocker.knock();
            }
        }
        self.close();
        self.from_peers = crossbeam_channel::never();
        self.peers.close();
        if let Ok(Some(text)) = screen.join()
            && screen::write_out(&text).is_ok()
        {
            self.handle(state, Event::Displayed(u64::MAX));
        }
    }
}
