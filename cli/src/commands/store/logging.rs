//! Log lines with the fields that etcd's have, so that what reads those reads these.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::registry::LookupSpan;

use super::settings::Settings;

/// Starts logging as the flags say.
pub fn start(settings: &Settings) -> Result<(), String> {
    let level = match settings.text("log-level") {
        level @ ("debug" | "info" | "warn" | "error") => level,
        "panic" | "fatal" | "dpanic" => "off",
        other => return Err(format!("unrecognized log level {other:?}")),
    };
    let json = match settings.text("log-format") {
        "json" => true,
        "console" => false,
        other => return Err(format!("unrecognized log format {other:?}: json or console")),
    };
    let filter = EnvFilter::try_from_env("KONTIKI_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},openraft=warn,hyper=warn,h2=warn,tower=warn")));
    let outputs = settings.list("log-outputs").iter().map(|name| output(name)).collect::<Result<Vec<_>, _>>()?;
    let outputs = Outputs(std::sync::Arc::new(Mutex::new(outputs)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let builder = builder.with_writer(BoxMakeWriter::new(move || outputs.clone()));
    if json {
        builder.event_format(Lines).init();
    } else {
        builder.init();
    }
    Ok(())
}

fn output(name: &str) -> Result<Box<dyn Write + Send>, String> {
    match name {
        "default" | "stderr" | "systemd/journal" => Ok(Box::new(std::io::stderr())),
        "stdout" => Ok(Box::new(std::io::stdout())),
        path => match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(format!("--log-outputs {path:?}: {error}")),
        },
    }
}

/// Every place that a line goes to.
#[derive(Clone)]
struct Outputs(std::sync::Arc<Mutex<Vec<Box<dyn Write + Send>>>>);

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        for output in self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter_mut() {
            output.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter_mut().try_for_each(Write::flush)
    }
}

/// zap's JSON: level, ts, caller, msg, and the rest.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let caller = format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        let level = metadata.level().as_str().to_lowercase();
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        writer.write_str(&line(&level, &time, &caller, fields))?;
        writer.write_char('\n')
    }
}

fn line(level: &str, time: &str, caller: &str, fields: Fields) -> String {
    let text = |value: &str| Value::String(value.to_owned()).to_string();
    let (level, time, caller, message) = (text(level), text(time), text(caller), text(&fields.message));
    let mut line = format!("{{\"level\":{level},\"ts\":{time},\"caller\":{caller},\"msg\":{message}");
    for (name, value) in &fields.rest {
        // Writing to a text cannot fail.
        let _ = write!(line, ",{}:{value}", text(&name.replace('_', "-")));
    }
    line.push('}');
    line
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::String(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        match (name, value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.rest.insert(name.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zaps() {
        let mut fields = Fields::default();
        fields.put("message", "ready to serve client requests".into());
        fields.put("member_id", "8e".into());
        let line = line("info", "2026-01-01T00:00:00.000000Z", "store/a.rs:1", fields);
        let expected = r#"{"level":"info","ts":"2026-01-01T00:00:00.000000Z","caller":"store/a.rs:1","msg":"ready to serve client requests","member-id":"8e"}"#;
        assert_eq!(line, expected);
    }
}
