//! Panics in the log: one line each, instead of the default report on stderr that no log reader understands.
//!
//! A panic is a bug that supervision deals with; this line is where its place in the source is told. The backtrace is
//! told only at level debug. The line passes the redactor like every other.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};

/// Has every panic of the process logged.
pub(super) fn hook() {
    panic::set_hook(Box::new(report));
}

/// Logs one panic to the current subscriber.
pub(super) fn report(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic with a payload that is no text");
    let (file, place) = info.location().map_or_else(Default::default, |at| {
        (at.file().to_owned(), format!("{}:{}:{}", at.file(), at.line(), at.column()))
    });
    let component = component(&file);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    if tracing::enabled!(tracing::Level::DEBUG) {
        let backtrace = Backtrace::force_capture();
        tracing::error!(component, location = place, thread, %backtrace, "panic: {message}");
    } else {
        tracing::error!(component, location = place, thread, "panic: {message}");
    }
}

/// `actors/src/step/deed.rs` → `actors::step::deed`; `process` for code that is not of the workspace.
fn component(file: &str) -> String {
    let path = file.replace('\\', "/");
    let Some((krate, module)) = path.rsplit_once("/src/") else { return "process".to_owned() };
    let krate = krate.rsplit('/').next().unwrap_or_default();
    if !["runtime", "actors", "gateway"].contains(&krate) {
        return "process".to_owned();
    }
    let module = module.trim_end_matches(".rs").replace('/', "::");
    if matches!(module.as_str(), "lib" | "main") { krate.to_owned() } else { format!("{krate}::{module}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_belongs_to_the_module_it_comes_from() {
        assert_eq!(component("actors/src/step/deed.rs"), "actors::step::deed");
        assert_eq!(component("/build/troupe/gateway/src/main.rs"), "gateway");
        assert_eq!(component("/registry/src/index/serde-1.0/src/lib.rs"), "process");
        assert_eq!(component(""), "process");
    }
}
