//! Cuts a stream of bytes into Redis commands.

/// Takes bytes as they come and gives commands as they are complete.
#[derive(Default)]
pub(super) struct Parser(Vec<u8>);

impl Parser {
    /// The commands that `bytes` complete, each as its words.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        self.0.extend_from_slice(bytes);
        let mut rest = self.0.as_slice();
        let mut commands = Vec::new();
        while let Some((command, after)) = command(rest) {
            commands.push(command);
            rest = after;
        }
        let read = self.0.len() - rest.len();
        self.0.drain(..read);
        commands
    }
}

/// The first command of `bytes` and what follows it, unless it is not complete yet.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let (line, mut rest) = line(bytes)?;
    let Some(count) = number(line, b'*') else {
        // A line of words, as people type it.
        return Some((line.split(u8::is_ascii_whitespace).map(<[u8]>::to_vec).collect(), rest));
    };
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (header, after) = self::line(rest)?;
        let length = number(header, b'$').expect("a client sends arrays of strings");
        words.push(after.get(..length)?.to_vec());
        rest = after.get(length + 2..)?;
    }
    Some((words, rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].trim_ascii_end(), &bytes[end + 1..]))
}

fn number(line: &[u8], kind: u8) -> Option<usize> {
    std::str::from_utf8(line.strip_prefix(&[kind])?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Parser;

    #[test]
    fn a_command_is_given_once_its_last_byte_came() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n*1\r\nPING\r\n*1\r\n$4\r\nPING\r\n";
        let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let expected = [words(&["SET", "a", "\r\n*1"]), words(&["PING"]), words(&["PING"])];

        assert_eq!(Parser::default().feed(bytes), expected);
        let mut parser = Parser::default();
        let commands: Vec<_> = bytes.iter().flat_map(|byte| parser.feed(&[*byte])).collect();
        assert_eq!(commands, expected);
    }
}
