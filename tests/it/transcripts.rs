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

macro_rules! transcripts {
    (over sockets too { $($both:ident)* } pure alone { $($pure:ident)* }) => {
        mod pure {
            $(#[test] fn $both() { super::play_pure(stringify!($both)); })*
            $(#[test] fn $pure() { super::play_pure(stringify!($pure)); })*
        }
        mod sockets {
            $(#[test] fn $both() { super::play_over_sockets(stringify!($both)); })*
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
        durable
        durable_unconfirmed
        files_register
        files_search
        files_search_hidden
        files_want
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
        reset
        stalled
        status
        timeout
        whoelsesince
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
