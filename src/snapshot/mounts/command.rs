//! A command that the configuration names, asked what is mounted where on another host.
//!
//! It is started without a shell, with the paths behind its own arguments, and must print what `barkeep mounts --format json` prints. It may
//! take half a minute and print a few megabytes; whatever else it says, on its standard error, is told if it fails. It may be `ssh`, which hands
//! its arguments to a shell on the other side, and paths of a server are not always barkeep's to choose: one that a shell would
//! not read as itself is refused.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::Report;
use crate::{
    model::time::Span,
    snapshot::{Error, Result},
};

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long its last words are waited for: what it leaves running may hold its standard error open for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much it may print.
const OUTPUT_MAX: u64 = 4 << 20;

/// How much of what else it says is kept.
const TALK_MAX: u64 = 4 << 10;

/// Asks a command for what it tells of these paths.
pub(in crate::snapshot) async fn ask(words: &[String], paths: &[PathBuf]) -> Result<Report> {
    within(words, paths, PATIENCE).await
}

async fn within(words: &[String], paths: &[PathBuf], patience: Duration) -> Result<Report> {
    let failed = |why: String| Error::MountsCommand {
        command: words.join(" "),
        why,
    };
    if let Some(path) = paths.iter().find(|path| !is_plain(path)) {
        let path = path.display();
        return Err(failed(format!(
            "`{path}` has a character that a shell may not read as itself"
        )));
    }
    let (program, arguments) = words.split_first().expect("a command has a program");
    let child = Command::new(program)
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| failed(error.to_string()))?;
    let ran = timeout(patience, run(child)).await;
    let ran = ran.map_err(|_| failed(format!("it has not ended in {}", Span(patience))))?;
    let (status, output, talk) = ran.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let talk = String::from_utf8_lossy(&talk);
        return Err(failed(format!("{status}: {}", talk.trim())));
    }
    Report::parse(&output).map_err(|why| {
        failed(format!(
            "it does not print what `barkeep mounts --format json` does: {why}"
        ))
    })
}

/// Waits for the end of a command: how it ended, what it printed, and what it said beside that.
async fn run(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let stdout = child.stdout.take().expect("it is a pipe");
    let stderr = child.stderr.take().expect("it is a pipe");
    let mut talk = Vec::new();
    let ended = {
        let ending = async { tokio::try_join!(output(stdout), child.wait()) };
        let listening = listen(stderr, &mut talk);
        tokio::pin!(ending, listening);
        let ended = tokio::select! {
            ended = &mut ending => {
                if ended.is_ok() {
                    timeout(LAST_WORDS, listening).await.ok();
                }
                ended
            }
            () = &mut listening => ending.await,
        };
        ended?
    };
    let (output, status) = ended;
    Ok((status, output, talk))
}

/// All that it prints, if that is not too much.
async fn output(stdout: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    stdout.take(OUTPUT_MAX + 1).read_to_end(&mut output).await?;
    if output.len() as u64 > OUTPUT_MAX {
        let why = format!("it prints more than {} MiB", OUTPUT_MAX >> 20);
        return Err(io::Error::other(why));
    }
    Ok(output)
}

/// Keeps the beginning of what it says, and reads the rest, so that it can go on. What cannot be read is not worth a failure.
async fn listen(mut stderr: impl AsyncRead + Unpin, talk: &mut Vec<u8>) {
    let mut beginning = (&mut stderr).take(TALK_MAX);
    beginning.read_to_end(talk).await.ok();
    tokio::io::copy(&mut stderr, &mut tokio::io::sink())
        .await
        .ok();
}

/// Whether a shell reads a path as itself.
fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let text = path.to_str();
    text.is_some_and(|text| text.starts_with('/') && text.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"format":1,"disks":[],"paths":[
        {"path":"/pg","mount":{"point":"/pg","options":"rw"},"blocks":["sdb"]}]}"#;

    /// What a shell script that stands for the command leads to.
    async fn asked(script: &str, path: &str) -> Result<Report, String> {
        asked_within(script, path, PATIENCE).await
    }

    async fn asked_within(script: &str, path: &str, patience: Duration) -> Result<Report, String> {
        let words = ["sh", "-c", script, "sh"].map(str::to_owned);
        let report = within(&words, &[PathBuf::from(path)], patience).await;
        report.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_is_given_the_paths_and_prints_a_report() {
        let script = format!("[ \"$*\" = /pg ] && printf '%s' '{REPORT}'");
        let report = asked(&script, "/pg").await.expect("a report");
        let (mount, blocks) = report.holding(Path::new("/pg")).expect("it is told");
        assert_eq!(
            (mount.point.as_str(), blocks),
            ("/pg", vec!["sdb".to_owned()])
        );
        let other = report.holding(Path::new("/wal"));
        let why = other.expect_err("it is not told").to_string();
        assert_eq!(why, "its host does not tell of `/wal`");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_command_is_told() {
        let newer = REPORT.replace("\"format\":1", "\"format\":2");
        let newer = format!("printf '%s' '{newer}'");
        for (script, told) in [
            ("echo lost >&2; exit 3", "exit status: 3: lost"),
            (
                "echo DISK",
                "it does not print what `barkeep mounts --format json` does: ",
            ),
            (&newer, "it has format 2, not 1"),
            ("exec cat /dev/zero", "it prints more than 4 MiB"),
            // What it says beside its output is read however much it is.
            (
                "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 4",
                "exit status: 4: xxx",
            ),
        ] {
            let why = asked(script, "/pg").await.expect_err(script);
            assert!(why.contains(told) && why.len() < 6000, "{script}: {why}");
        }
        let short = Duration::from_millis(100);
        let why = asked_within("exec sleep 60", "/pg", short).await;
        let why = why.expect_err("it hangs");
        assert!(why.contains("it has not ended in "), "{why}");
        let words = ["/nowhere/barkeep".to_owned()];
        let error = within(&words, &[], PATIENCE).await.expect_err("no program");
        assert!(error.to_string().contains("`/nowhere/barkeep`"), "{error}");
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_not_waited_for() {
        let script = format!("printf '%s' '{REPORT}'; exec >&-; sleep 30 & exit 0");
        let report = asked_within(&script, "/pg", Duration::from_secs(10)).await;
        assert!(report.is_ok(), "{report:?}");
    }

    #[tokio::test]
    async fn a_path_that_a_shell_would_not_read_as_itself_is_refused() {
        for path in [
            "/pg data",
            "/pg;reboot",
            "/$(reboot)",
            "/pg\n",
            "/pgä",
            "-x",
            "pg",
        ] {
            let why = asked("exit 9", path).await.expect_err(path);
            assert!(why.contains("a character that a shell"), "{path}: {why}");
        }
    }
}
