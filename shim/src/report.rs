//! What libcontainer says when it fails, kept for the user.
//!
//! In: error events of libcontainer, most of them from the cloned child, whose returned errors lose their
//! causes on the way. Out: lines in `shim.log`, and the details of the operation at hand for its reply.

use std::{
    fmt::{Debug, Write as _},
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// File that errors go to, relative to the sandbox's folder; the kubelet makes it standard error.
pub const LOG: &str = "shim.log";

/// Writes each error event as one line to standard error.
struct ErrorLines;

/// Starts to collect; once, at the start.
pub fn install() {
    // A second subscriber cannot be there: this is the program's only call.
    let _ = tracing::subscriber::set_global_default(ErrorLines);
}

impl Subscriber for ErrorLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        // The child's standard error is the container's by now: append by the name that the parent opened.
        append(&format!("{}{}\n", line.message, line.fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Collects an event's fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

thread_local! {
    /// Opened before the first clone: the child has no path to it any more after it has changed its root.
    static SINK: Option<File> = File::options().append(true).create(true).open(LOG).ok();
}

fn append(line: &str) {
    SINK.with(|sink| {
        if let Some(mut file) = sink.as_ref() {
            // Nobody is left to tell if the log itself fails.
            let _ = std::io::Write::write_all(&mut file, line.as_bytes());
        }
    });
}

/// Where the log ends now; also opens it for the children to come.
pub fn mark() -> u64 {
    SINK.with(|sink| sink.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len()))
}

/// The first line logged after `mark`: the innermost cause.
pub fn first_since(mark: u64) -> Option<String> {
    let mut file = File::open(LOG).ok()?;
    file.seek(SeekFrom::Start(mark)).ok()?;
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    text.lines().next().map(str::to_owned)
}
