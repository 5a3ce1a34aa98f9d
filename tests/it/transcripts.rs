//! Every transcript on the pure state; those in which no time passes over sockets as well.

use crate::play::{self, Play, Setup};
use crate::pure::Pure;
use crate::socket::{Sockets, without_time};

fn play_pure(name: &str) {
    let play: Play = Play::load(name);
    play.perform(&mut Pure::new(&play.setup), |line| Some(line.to_owned()), true);
}

fn play_over_sockets(name: &str) {
    let play: Play = Play::load(name);
    play.perform(&mut Sockets::new(&play.setup), without_time, false);
}

/// What a line of either dialect says, in the words of the line dialect; nothing for what only one
/// of them has.
fn in_common_words(line: &str) -> Option<String> {
    let (actor, said) = line.split_once("< ")?;
    let one_of_them = ["Username:", "Password:", "Welcome to ", "Goodbye"];
    if actor.chars().count() != 1 || one_of_them.iter().any(|words| said.starts_with(words)) {
        return None;
    }
    let said = if let Some(name) = said.strip_suffix(" has logged on.") {
        format!("{name} logged in")
    } else if let Some(name) = said.strip_suffix(" is offline.") {
        format!("{name} logged out")
    } else if let Some(names) = said.strip_prefix("Online: ") {
        names.replace(", ", &format!("\n{actor}< "))
    } else {
        let (time, rest) = said.split_at(said.find("] ").filter(|_| said.starts_with("[0")).map_or(0, |at| at + 2));
        let text = rest.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        text.map_or_else(|| said.to_owned(), |(from, text)| format!("{time}{from}: {text}"))
    };
    Some(format!("{actor}< {said}"))
}

/// Plays with some of the actors as framed clients: the rule is the same, whoever asks.
fn play_framed(name: &str) {
    let play: Play = Play::load(name);
    for letters in ["abcdefgh", "a", "b", "c"] {
        play.perform(&mut Pure::with_framed(&play.setup, letters), in_common_words, false);
    }
}

macro_rules! transcripts {
    (over sockets too { $($both:ident)* } pure alone { $($pure:ident)* } framed as well { $($framed:ident)* }) => {
        mod pure {
            $(#[test] fn $both() { super::play_pure(stringify!($both)); })*
            $(#[test] fn $pure() { super::play_pure(stringify!($pure)); })*
        }
        mod sockets {
            $(#[test] fn $both() { super::play_over_sockets(stringify!($both)); })*
        }
        mod framed {
            $(#[test] fn $framed() { super::play_framed(stringify!($framed)); })*
        }
        const BOTH: &[&str] = &[$(stringify!($both)),*];
        const PURE: &[&str] = &[$(stringify!($pure)),*];
    };
}

transcripts! {
    over sockets too {
        block
        block_absent
        broadcast
        carriage_return
        end_of_input
        group_create
        group_leave
        group_manage
        group_rename
        group_send
        help
        login
        login_already_online
        login_blanks
        login_misses_count_per_name
        login_no_lockout
        login_third_try
        login_unknown_name
        login_whole_password
        logout
        lookalike_names
        lookalikes
        mailbox_max
        message
        message_blocked_before_offline
        message_offline_then_live
        mode_direct
        mode_exit
        mode_general
        mode_group
        new_users
        presence_blocked
        private_netcat
        receipts
        receipts_wait
        stop
        whoelse
        whoelse_hide_blockers
    }
    pure alone {
        block_disk_fails_twice
        disk_fails
        disk_fails_confirming
        disk_fails_reading
        group_disk_fails_midway
        message_returned_behind_page
        durable
        durable_unconfirmed
        files_register
        files_register_part
        files_search
        files_search_hidden
        files_want
        files_withdraw
        framed_addresses
        framed_addresses_of_lines
        framed_disk_fails
        framed_gone
        framed_groups
        framed_heartbeat
        framed_login
        framed_moves
        framed_moves_disk_fails
        framed_moves_doubtful
        framed_moves_from_broken
        framed_moves_from_mail
        framed_receipts
        framed_requests
        framed_slow
        framed_stop
        framed_texts
        group_disk_fails
        group_durable
        login_pool
        login_pool_sources
        login_takes_too_long
        login_three_misses
        message_offline
        mode_idle
        new_users_file_fails
        ours_confirms
        ours_login
        ours_modes
        ours_refused
        ours_resume
        ours_same_line_disk_fails
        ours_same_line_twice
        presence
        private_address
        private_ask
        private_dial
        private_idle
        private_start
        receipts_disk_fails
        receipts_durable
        receipts_ours
        receipts_stalled
        receipts_two_sessions
        reset
        stalled
        status
        timeout
        whoelsesince
    }
    framed as well {
        block
        block_absent
        block_disk_fails_twice
        broadcast
        disk_fails
        durable
        logout
        message
        message_blocked_before_offline
        message_offline
        message_offline_then_live
        presence_blocked
        whoelse
        whoelse_hide_blockers
    }
}

#[test]
fn every_transcript_is_played_wherever_it_can() {
    for name in play::names::<Setup>() {
        let play: Play = Play::load(&name);
        let list = if play.fits_sockets() { BOTH } else { PURE };
        // The simulator plays all of them.
        assert!(play.has_clients() || list.contains(&&*name), "{name} is not in its list");
    }
}
