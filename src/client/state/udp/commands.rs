//! What is typed: the commands of both Basel systems, and text for whoever gets it.

use super::super::direct::QUIT;
use super::{DATAGRAM_BYTES_MAX, Effect, MEMBERS_MILLIS, State, To};
use crate::wire::command::words;
use crate::wire::datagram::{Ask, BadWord, Spelling, Talk, group_name, group_place, room_name, user_name};
use crate::wire::line;
use crate::wire::name::Text;

/// A command: how it is typed, and what it does.
#[derive(Debug)]
pub struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
}

const fn command(name: &'static str, arguments: &'static str, summary: &'static str) -> Command {
    Command { name, arguments, summary }
}

/// All of them; `help` is made from this.
pub const COMMANDS: [Command; 19] = [
    command("cmd:register", "NAME", "take a name on the server; needed for all that follows but the lists"),
    command("cmd:request", "NAME", "talk to NAME, who is told"),
    command("$poke", "NAME", "the same in the spelling of the $ commands"),
    command("$kick", "", "stop sending to the others; nobody is thrown out"),
    command("$userlist", "", "who is on the server"),
    command("$roomlist", "", "which rooms there are"),
    command("$roomcreate", "ROOM", "make a room"),
    command("$roomjoin", "ROOM", "join a room, out of the one before: your text goes to each member"),
    command("$roomleave", "", "leave the room"),
    command("cmd:groups", "", "which multicast groups there are"),
    command("cmd:create", "NAME IP PORT", "make one; IP from 224.0.0.0 to 239.255.255.255, best 239.x.x.x"),
    command("cmd:enter", "NAME", "enter one, out of the one before: your text is multicast"),
    command("cmd:members", "", "who is in the room or group; a group is asked itself"),
    command("cmd:leave", "", "leave the room, the group or the talk"),
    command("cmd:help", "", "this list; what begins with neither cmd: nor $ is text"),
    command("$help", "", "the same"),
    command("help", "", "the same, as long as nobody gets what you type"),
    command(QUIT, "", "say goodbye to the server and end"),
    command("", "", "a line that begins with a blank is text, whatever follows"),
];

impl State {
    pub(super) fn typed(&mut self, line: &[u8]) {
        let Ok(line) = line::text(line) else { return self.refuse("The line is not UTF-8 text, not sent".to_owned()) };
        let mut parts = words(&line);
        let first = parts.next().unwrap_or_default();
        let arguments: Vec<&str> = parts.collect();
        match first {
            "" => {}
            QUIT if arguments.is_empty() => self.leave(),
            "help" if arguments.is_empty() && self.to == To::Nobody => self.help(),
            _ if line.starts_with("cmd:") || line.starts_with('$') => self.command(first, &arguments),
            _ => self.say_text(&line),
        }
    }

    fn command(&mut self, command: &str, arguments: &[&str]) {
        match (command, arguments) {
            ("cmd:register", [name]) => self.register(name),
            ("cmd:request", [name]) => self.find(Spelling::Codes, name),
            ("$poke", [name]) => self.find(Spelling::Words, name),
            ("$kick", []) => self.kick(),
            ("$userlist", []) => self.ask(Ask::Users),
            ("$roomlist", []) => self.ask(Ask::Rooms),
            ("$roomcreate", [room]) => match room_name(room) {
                Ok(room) => self.ask(Ask::CreateRoom(room.as_str().to_owned())),
                Err(why) => self.refuse(why.to_string()),
            },
            ("$roomjoin", [room]) => {
                self.with_name(room_name(room).map(|room| Ask::JoinRoom(room.as_str().to_owned())))
            }
            ("$roomleave", []) => self.leave_room(),
            ("cmd:groups", []) => self.ask(Ask::Groups),
            ("cmd:create", [name, address, port]) => self.create_group(name, address, port),
            ("cmd:enter", [name]) => {
                self.with_name(group_name(name).map(|name| Ask::FindGroup(name.as_str().to_owned())))
            }
            ("cmd:members", []) => self.list_members(),
            ("cmd:leave", []) => self.leave_all(),
            ("cmd:help" | "$help", []) => self.help(),
            _ => self.misused(command),
        }
    }

    fn misused(&mut self, typed: &str) {
        match COMMANDS.iter().find(|command| command.name == typed) {
            Some(Command { name, arguments: "", .. }) => self.refuse(format!("Usage: {name}")),
            Some(Command { name, arguments, .. }) => self.refuse(format!("Usage: {name} {arguments}")),
            None => {
                let typed: String = typed.chars().take(40).collect();
                self.refuse(format!("No such command {} (try cmd:help)", Text::harmless(&typed).as_str()));
            }
        }
    }

    fn help(&mut self) {
        for Command { name, arguments, summary } in &COMMANDS {
            let usage = format!("{name} {arguments}");
            self.say(&format!("{:<26} {summary}", usage.trim()));
        }
    }

    /// First words, and what is known of what can follow them.
    pub(super) fn completions(&self) -> Vec<(&'static str, Vec<String>)> {
        let names = COMMANDS.iter().map(|command| command.name).filter(|name| name.len() > QUIT.len());
        let following = |name| match name {
            "cmd:request" | "$poke" => self.users.iter().cloned().collect(),
            "$roomjoin" => self.rooms.iter().cloned().collect(),
            "cmd:enter" => self.groups.iter().cloned().collect(),
            _ => Vec::new(),
        };
        names.map(|name| (name, following(name))).collect()
    }

    // Asking the server.

    pub(super) fn register(&mut self, name: &str) {
        match user_name(name) {
            Ok(name) => self.ask(Ask::Register(Spelling::Codes, name.as_str().to_owned())),
            Err(why) => self.refuse(why.to_string()),
        }
    }

    fn find(&mut self, spelling: Spelling, name: &str) {
        if self.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name)) {
            return self.refuse("That is you".to_owned());
        }
        self.with_name(user_name(name).map(|name| Ask::Find(spelling, name.as_str().to_owned())));
    }

    /// Asks for what one needs a name for.
    fn with_name(&mut self, ask: Result<Ask, BadWord>) {
        match ask {
            Err(why) => self.refuse(why.to_string()),
            Ok(ask) if self.name.is_some() || self.is_registering() => self.ask(ask),
            Ok(_) => self.refuse("You have no name yet: cmd:register NAME".to_owned()),
        }
    }

    /// A name has been asked for, and will be there before what is asked next.
    fn is_registering(&self) -> bool {
        let awaited = self.awaited.iter().map(|awaited| &awaited.question.ask);
        let mut asks = awaited.chain(self.questions.iter().map(|question| &question.ask));
        asks.any(|ask| matches!(ask, Ask::Register(..)))
    }

    fn create_group(&mut self, name: &str, address: &str, port: &str) {
        match group_name(name).and_then(|name| Ok((name, group_place(address, port)?))) {
            Ok((name, place)) => self.ask(Ask::CreateGroup {
                name: name.as_str().to_owned(),
                address: place.ip().to_string(),
                port: place.port().to_string(),
            }),
            Err(why) => self.refuse(why.to_string()),
        }
    }

    // Leaving.

    fn kick(&mut self) {
        match &mut self.to {
            To::Room { peers, .. } => peers.clear(),
            _ => self.part(),
        }
        self.news("Nobody gets what you type any more".to_owned());
    }

    fn leave_room(&mut self) {
        if matches!(self.to, To::Room { .. }) {
            self.to = To::Nobody;
            self.ask(Ask::LeaveRoom);
        } else {
            self.refuse("You are in no room".to_owned());
        }
    }

    fn leave_all(&mut self) {
        match self.to {
            To::Nobody => self.refuse("You are in no room, group or talk".to_owned()),
            To::Room { .. } => self.leave_room(),
            To::Peer(_) | To::Group { .. } => self.kick(),
        }
    }

    /// Takes leave of whoever gets what is typed: somebody else will.
    pub(super) fn part(&mut self) {
        match std::mem::replace(&mut self.to, To::Nobody) {
            To::Nobody | To::Peer(_) => {}
            To::Room { .. } => self.ask_quietly(Ask::LeaveRoom),
            To::Group { .. } => self.effects.push(Effect::LeaveGroup),
        }
    }

    // Talking.

    fn list_members(&mut self) {
        let Some(name) = self.name.clone() else { return self.refuse("You are in no room or group".to_owned()) };
        match &self.to {
            To::Nobody => return self.refuse("You are in no room or group".to_owned()),
            To::Group { .. } => {
                self.heard.clear();
                self.members = Some(self.now.elapsed + MEMBERS_MILLIS);
                self.effects.push(Effect::Shout(Talk::Who(name.clone()).spell()));
            }
            To::Peer(peer) => {
                let peer = *peer;
                self.say(&self.described(peer));
            }
            To::Room { peers, .. } => {
                for peer in peers.clone() {
                    self.say(&self.described(peer));
                }
            }
        }
        self.say(&format!("{name} (you)"));
    }

    /// Whether it is being found out who will get what is typed.
    fn is_turning(&self) -> bool {
        let awaited = self.awaited.iter().map(|awaited| &awaited.question.ask);
        let mut asks = awaited.chain(self.questions.iter().map(|question| &question.ask));
        self.entering.is_some() || asks.any(|ask| matches!(ask, Ask::Find(..) | Ask::JoinRoom(_) | Ask::FindGroup(_)))
    }

    /// One datagram to everybody who gets what is typed.
    fn say_text(&mut self, text: &str) {
        if self.is_turning() {
            return self.refuse("Not sent: the server has not said yet where to".to_owned());
        }
        let words = |state: &Self| {
            let (from, text) = (state.name.clone(), text.to_owned());
            Talk::Said { spelling: Spelling::Words, from, text }.spell()
        };
        let codes = Talk::Said { spelling: Spelling::Codes, from: None, text: text.to_owned() }.spell();
        let (datagram, peers) = match &self.to {
            To::Nobody => {
                return self.refuse(
                    "Nobody gets what you type: cmd:request NAME, $roomjoin ROOM or cmd:enter NAME".to_owned(),
                );
            }
            To::Peer(peer) if self.spellings.get(peer) == Some(&Spelling::Words) => (words(self), vec![*peer]),
            To::Peer(peer) => (codes, vec![*peer]),
            To::Room { peers, .. } if peers.is_empty() => {
                return self.refuse("Nobody else is in the room".to_owned());
            }
            To::Room { peers, .. } => (words(self), peers.clone()),
            To::Group { .. } => (codes, Vec::new()),
        };
        if self.name.is_none() {
            return self.refuse("You have no name yet: cmd:register NAME".to_owned());
        }
        if datagram.len() > DATAGRAM_BYTES_MAX {
            let over = datagram.len() - DATAGRAM_BYTES_MAX;
            return self.refuse(format!("Not sent: {over} bytes more than go into one datagram"));
        }
        if matches!(self.to, To::Group { .. }) {
            self.effects.push(Effect::Shout(datagram));
        } else {
            peers.into_iter().for_each(|peer| self.transmit(peer, datagram.clone()));
        }
    }
}
