//! Secrets that somebody wrote into a configuration, where none belongs.
//!
//! They are refused, and taken out of the text before anything is rendered: a validation's output
//! goes into logs.

use super::{
    conninfo,
    diagnostic::Diagnostic,
    source::{Sources, Span},
    tree::{Node, Value},
};

/// Reports every secret in a tree and blots it out of the tree and its text.
pub(super) fn refuse(node: &mut Node, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::Table(table) => {
            for (key, item) in table {
                let written = item.node.text();
                let secret = match key.as_str() {
                    "password" | "connection_string" => written.is_some(),
                    "connection" | "primary_connection" => {
                        written.is_some_and(conninfo::has_password)
                    }
                    _ => false,
                };
                if secret {
                    blot(&mut item.node, sources);
                    diagnostics.push(refusal(key, &item.key));
                } else {
                    refuse(&mut item.node, sources, diagnostics);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                refuse(item, sources, diagnostics);
            }
        }
        _ => {}
    }
}

fn blot(node: &mut Node, sources: &mut Sources) {
    sources.blot(&node.span);
    node.value = Value::Broken;
}

fn refusal(key: &str, span: &Span) -> Diagnostic {
    let error = Diagnostic::error("a password is written in the configuration");
    let error = error.label(span, "not shown here");
    match key {
        "connection_string" => error.help(
            "say where it is: `connection_string = { file = \"...\" }`, `{ env = \"...\" }` or \
             `{ command = [...] }`",
        ),
        _ => error.help(
            "say where it is: `password = { file = \"...\" }`, `{ env = \"...\" }`, \
             `{ command = [...] }`, or a passfile",
        ),
    }
}
