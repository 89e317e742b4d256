//! The words of a line of shell, as far as a crontab or a hook script is one: quotes, backslashes, and where a command ends.
//!
//! Nothing is expanded: a word with a variable in it stays as it is written.

/// A command: the variables set for it alone, and its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// `NAME=value` in front of it.
    pub(super) variables: Vec<String>,
    /// The program and its arguments.
    pub(super) words: Vec<String>,
}

/// The commands of a line, parted by `;`, `&`, `|` and what is made of them; redirections are left out.
pub(super) fn commands(line: &str) -> Vec<Command> {
    let mut reader = Reader::default();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (reader.quote, character) {
            (Some(quote), _) if character == quote => reader.quote = None,
            (Some('"') | None, '\\') => {
                reader
                    .word
                    .get_or_insert_default()
                    .extend(characters.next());
            }
            (None, '\'' | '"') => {
                reader.quote = Some(character);
                reader.word.get_or_insert_default();
            }
            (None, '>' | '<') => {
                // `2>` is a number in front of it, `>&1` an ampersand behind it.
                if reader.word.as_deref().is_some_and(is_number) {
                    reader.word = None;
                }
                reader.end_word();
                let of_it = |next: &char| matches!(next, '>' | '<' | '&' | ' ');
                while characters.next_if(of_it).is_some() {}
                reader.into_file = true;
            }
            (None, ';' | '&' | '|' | '\n') => reader.end_command(),
            (None, '#') if reader.word.is_none() => break,
            (None, space) if space.is_whitespace() => reader.end_word(),
            (_, other) => reader.push(other),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct Reader {
    commands: Vec<Command>,
    command: Command,
    word: Option<String>,
    quote: Option<char>,
    /// The next word is the file of a redirection.
    into_file: bool,
}

impl Reader {
    fn push(&mut self, character: char) {
        self.word.get_or_insert_default().push(character);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        if std::mem::take(&mut self.into_file) {
            return;
        }
        if self.command.words.is_empty() && is_assignment(&word) {
            self.command.variables.push(word);
        } else {
            self.command.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let command = std::mem::take(&mut self.command);
        if !command.words.is_empty() {
            self.commands.push(command);
        }
    }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_digit())
}

/// Whether a word sets a variable.
pub(super) fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What a program is called by, without the directory it is in.
pub(super) fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> String {
        let shown = commands(line).into_iter().map(|command| {
            let variables = command
                .variables
                .iter()
                .map(|variable| format!("{variable}@"));
            let words = command.words.iter().map(|word| format!("[{word}]"));
            variables.chain(words).collect::<String>()
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_line_is_parted_as_a_shell_would() {
        let cases = [
            ("a 'b c' \"d 'e'\" f\\ g", "[a][b c][d 'e'][f g]"),
            ("X=1 Y='2 3' a b=c", "X=1@Y=2 3@[a][b=c]"),
            ("a >> /log 2>&1 b && c; d | e # f", "[a][b] [c] [d] [e]"),
            ("a 2>/dev/null", "[a]"),
            ("a ''", "[a][]"),
            ("a \"b \\\" c\"", "[a][b \" c]"),
            ("  ", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), expected, "{line}");
        }
        assert_eq!(program("/usr/bin/x"), "x");
    }
}
