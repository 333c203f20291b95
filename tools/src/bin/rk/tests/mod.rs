//! The commands as an operator gives them, on directories that a store wrote and tests damaged.

mod directories;
mod fixture;
mod java;
mod logs;
mod mutations;

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use clap::Parser;
use serde_json::Value;

use crate::console::{Console, Failure, Verdict};
use crate::{Arguments, run};

#[derive(Clone, Default)]
struct Captured(Rc<RefCell<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `rk ...words path` says, and its verdict.
fn rk(words: &[&str], path: &Path) -> Result<(Verdict, String), Failure> {
    let path = path.to_str().unwrap();
    let words = std::iter::once("rk").chain(words.iter().copied()).chain([path]);
    let arguments = Arguments::try_parse_from(words).unwrap();
    let captured = Captured::default();
    let mut console = Console::to(Box::new(captured.clone()), arguments.json);
    let verdict = run(arguments.command, &mut console)?;
    console.finish()?;
    let text = String::from_utf8(captured.0.take()).unwrap();
    Ok((verdict, text))
}

/// The same with `--json`: one value a line.
fn rk_json(words: &[&str], path: &Path) -> (Verdict, Vec<Value>) {
    let words: Vec<_> = words.iter().copied().chain(["--json"]).collect();
    let (verdict, text) = rk(&words, path).unwrap();
    (verdict, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn of_kind<'a>(values: &'a [Value], item: &str) -> Vec<&'a Value> {
    values.iter().filter(|value| value["item"] == item).collect()
}
