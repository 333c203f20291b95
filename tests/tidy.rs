//! The layering, enforced: `wire <- core <- shell`, `storage` below, and no clock, thread, socket, file or chance where
//! the thinking is done. A failure says what to use instead. And documents that name tests and numbers are held to them.

mod sources;

use std::fs;
use std::path::PathBuf;

use sources::{root, rust_files};

/// A word that must not stand in some folders, and what to do instead.
struct Rule {
    folders: &'static [&'static str],
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    instead: &'static str,
}

/// The simulator is no part of the thinking, but a seed that does not give the same run again is worth nothing.
const PURE: &[&str] = &[
    "src/core",
    "src/wire",
    "src/snapshot_stream",
    "src/sim",
    "storage/src/log",
    "storage/src/snapshot",
    "storage/src/java",
];

const RULES: &[Rule] = &[
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["std::time", "Instant::now", "SystemTime"],
        instead: "time arrives as an input: take it from `Now`",
    },
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["std::thread", "glommio", "std::sync", "tokio"],
        instead: "one owner has the state; threads and executors belong to `shell/` and `storage/src/backend`",
    },
    Rule {
        folders: &["src/shell"],
        except: &["src/shell/reactor"],
        forbidden: &["glommio::timer", "glommio::net", "glommio::io", "glommio::spawn_local", "glommio::executor"],
        instead: "nobody looks at the runtime's own reactor: tasks, timers and sockets are those of `shell/reactor`",
    },
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["TcpStream", "TcpListener", "UdpSocket", "socket2", "UnixStream"],
        instead: "bytes come in as `Input::Received` and leave as `Output::Send`; sockets belong to `shell/`",
    },
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["std::fs", "File::open", "rustix::fs", "std::env", "std::process"],
        instead: "files are `DiskOp`s and `DiskEvent`s; only `storage/src/backend` carries them out",
    },
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["rand::", "RandomState", "std::collections::HashMap", "std::collections::HashSet", "getrandom"],
        instead: "chance arrives as an input, and hash tables have a fixed seed: `hashbrown` with `foldhash::fast::FixedState`",
    },
    Rule {
        folders: PURE,
        except: &[],
        forbidden: &["println!", "eprintln!", "tracing::"],
        instead: "say it with an output or a metric; the shell does the talking",
    },
    Rule {
        folders: &["src/wire"],
        except: &[],
        forbidden: &["crate::core", "crate::shell", "crate::config"],
        instead: "`wire` knows bytes and messages only",
    },
    Rule {
        folders: &["src/core"],
        except: &[],
        forbidden: &["crate::shell", "crate::config"],
        instead: "`core` is driven by the shell, not the other way round; settings come as `core::Settings`",
    },
    Rule {
        folders: &["src/core/zab", "src/core/election"],
        except: &["src/core/zab/learner/tests/rig.rs"],
        forbidden: &["core::pipeline", "core::node", "core::peer", "core::session", "core::connection", "core::tree"],
        instead: "elections and broadcast know zxids and bytes; what is to be done on the node leaves as an event for `peer.rs`",
    },
    Rule {
        folders: &["src/core/zab"],
        except: &[],
        forbidden: &["core::election"],
        instead: "broadcast begins when the election is over; `peer.rs` joins the two",
    },
    Rule {
        folders: &["src/core/election"],
        except: &[],
        forbidden: &["zab::leader", "zab::learner", "zab::proposals", "zab::window", "zab::catch_up", "zab::epoch"],
        instead: "an elector needs the membership and nothing else of `zab`",
    },
    Rule {
        folders: &["src/core"],
        except: &[],
        forbidden: &["crate::sim"],
        instead: "`core` does not know whether it is simulated; `probe` has what it may say to a simulation",
    },
    Rule {
        folders: &["src/sim"],
        except: &[],
        forbidden: &["crate::shell", "crate::config"],
        instead: "`sim` takes the place of the shell",
    },
    Rule {
        folders: &["src/java"],
        except: &[],
        forbidden: &["crate::shell", "crate::config"],
        instead: "`java` joins `core` with `storage`; the shell and the tools call it",
    },
    Rule {
        folders: &["src/snapshot_stream"],
        except: &[],
        forbidden: &["crate::shell", "crate::config"],
        instead: "`snapshot_stream` joins the core's messages with bytes; the shell has the links they travel on",
    },
    Rule {
        folders: &["src/config"],
        except: &[],
        forbidden: &["crate::shell"],
        instead: "`config` is plain data; the shell reads it",
    },
    Rule {
        folders: &["storage/src"],
        except: &[],
        forbidden: &["ringkeeper::"],
        instead: "`storage` knows zxids and bytes, never znodes; it depends on nothing of the server",
    },
    Rule {
        folders: &["src", "bench/src", "fuzz/src", "tools/src"],
        except: &[],
        forbidden: &["unsafe {", "unsafe fn", "unsafe impl"],
        instead: "unsafe code lives in `storage/` alone, with its proof",
    },
    Rule {
        folders: &["src", "storage/src", "bench/src", "fuzz/src", "tools/src"],
        except: &[],
        forbidden: &["todo!(", "unimplemented!(", "dbg!("],
        instead: "finish it, or refuse it with a clear error",
    },
];

#[test]
fn nothing_reaches_across_the_layers() {
    let mut found = Vec::new();
    for rule in RULES {
        for folder in rule.folders {
            for file in rust_files(&root().join(folder)) {
                let name = file.strip_prefix(root()).unwrap().display().to_string();
                if rule.except.iter().any(|except| name.starts_with(except)) {
                    continue;
                }
                for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
                    for word in rule.forbidden.iter().filter(|word| line.contains(**word)) {
                        found.push(format!("{name}:{number}: `{word}` does not belong here: {}", rule.instead));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Every `unsafe` of `storage/` comes with its proof right above it.
#[test]
fn unsafe_code_is_proved() {
    let mut found = Vec::new();
    for file in rust_files(&root().join("storage/src")) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            // The proof may be a few lines long and stand above the statement that the block is part of.
            let proved = lines[index.saturating_sub(12)..=index].iter().any(|line| line.contains("SAFETY:"));
            if !proved {
                found.push(format!("{}:{}: `unsafe` without a SAFETY comment", file.display(), index + 1));
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// A file that cannot be read in one sitting wants a seam.
#[test]
fn files_stay_readable() {
    const MOST_LINES: usize = 1000;
    let long: Vec<String> = ["src", "storage/src", "bench/src", "fuzz/src", "tools/src"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .filter_map(|file| {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            (lines > MOST_LINES).then(|| format!("{}: {lines} lines; split it by role or phase", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

#[test]
fn every_file_tells_its_story() {
    let silent: Vec<String> = ["src", "storage/src", "bench/src", "fuzz/src", "tools/src"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| format!("{}: does not open with `//!`", file.display()))
        .collect();
    assert!(silent.is_empty(), "\n{}\n", silent.join("\n"));
}

/// `docs/FIELD_FAILURES.md` has every number, each with tests that are there and name it.
#[test]
fn every_failure_of_the_field_has_its_test() {
    let table = fs::read_to_string(root().join("docs/FIELD_FAILURES.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|line| line.starts_with("| 20.")).map(|line| line.split(" | ").collect()).collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0].trim_start_matches("| ")).collect();
    assert_eq!(numbers, (1..=25).map(|number| format!("20.{number}")).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (row, number) in rows.iter().zip(numbers) {
        let shown = row.last().unwrap();
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() != shown.starts_with("none yet: ") {
            wrong.push(format!("{number}: no test, and no word of why"));
        }
        wrong.extend(tests.iter().filter_map(|test| Some(format!("{number}: {test}: {}", missing(number, test)?))));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// `docs/EDGE_CASES.md` has every case, each with tests that are there.
#[test]
fn every_edge_case_has_its_test() {
    let text = fs::read_to_string(root().join("docs/EDGE_CASES.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && line.contains(".rs: ")).collect();
    let counts = [('H', 11), ('R', 13), ('S', 9), ('C', 10), ('A', 8), ('W', 16), ('E', 7)];
    let numbers = |(letter, count): (char, usize)| (1..=count).map(move |number| format!("{letter}{number}"));
    let mut wanted: Vec<String> = counts.into_iter().flat_map(numbers).collect();
    wanted.insert(14, "R3b".into());
    let number = |row: &&str| row.trim_start_matches("| ").split(' ').next().unwrap_or_default().to_owned();
    let numbers: Vec<String> = rows.iter().map(number).take(wanted.len()).collect();
    assert_eq!(numbers, wanted);
    let is_there = |test: &str| {
        let (file, name) = test.split_once(": ")?;
        let text = fs::read_to_string(root().join(file)).ok()?;
        let (before, _) = text.split_once(&format!("fn {name}()"))?;
        before.trim_end().ends_with("#[test]").then_some(())
    };
    let tests = rows.iter().flat_map(|row| row.split('`')).filter(|word| word.contains(".rs: "));
    let missing: Vec<&str> = tests.filter(|test| is_there(test).is_none()).collect();
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

/// Differences from the reference are numbered once, in order, and what sources and documents cite is in the list.
#[test]
fn every_difference_has_its_number() {
    let table = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).unwrap();
    let listed: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| D-")?.split(' ').next()).collect();
    assert_eq!(listed, (1..=listed.len()).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    let mut files: Vec<PathBuf> = ["src", "storage", "bench/src", "tools", "tests"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .collect();
    let documents = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut unknown = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("D-0") {
            let number = text.get(at + 2..at + 5).unwrap_or_default();
            if number.parse::<u32>().is_ok() && !listed.contains(&number) {
                unknown.push(format!("{}: D-{number} is not in docs/COMPATIBILITY.md", file.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}

/// What is wrong with `file: test`, or `script.txt`, as a test of this number.
fn missing(number: &str, test: &str) -> Option<&'static str> {
    let (file, name) = test.split_once(": ").map_or((test, None), |(file, name)| (file, Some(name)));
    let Ok(text) = fs::read_to_string(root().join(file)) else { return Some("no such file") };
    let says = |text: &str| {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.')).any(|word| word.trim_end_matches('.') == number)
    };
    let Some(name) = name else { return (!says(&text)).then_some("does not name the number") };
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let declared = format!("fn {name}()");
    let Some(at) = lines.iter().position(|line| line.starts_with(&declared)) else { return Some("no such test") };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let above: Vec<&str> = above.copied().collect();
    if !above.iter().any(|line| line.starts_with("#[") && line.contains("test")) {
        return Some("is no test");
    }
    let in_name = name.contains(&format!("case_{}_", number.replace('.', "_")))
        || name.contains(&format!("_and_{}_", number.replace('.', "_")));
    (!in_name && !above.iter().any(|line| says(line))).then_some("neither its name nor its comment has the number")
}

/// Lines of code with their numbers: comments and the tests at the end of a file left out.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "mod tests {")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
        .collect()
}
