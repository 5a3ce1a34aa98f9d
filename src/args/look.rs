//! Arguments of the clients without a line port that say how things look.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How things look, and where to remember what is typed.
#[derive(Debug, Args)]
pub struct Look {
    /// No times before what others say
    #[arg(long)]
    pub no_times: bool,
    /// Colour who speaks
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: When,
    /// Ring the bell of the terminal at every message
    #[arg(long)]
    pub bell: bool,
    /// One JSON object per event and line
    #[arg(long)]
    pub json: bool,
    /// Folder that remembers what was typed [default: chinwag in the XDG state folder]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal that shows them, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
