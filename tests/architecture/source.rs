//! Reads a Rust file well enough for the rules: comments and literals blanked, test code told from production code.
//!
//! This is a scanner, not a parser. It keeps every newline, so a byte position in any view of a file gives the same
//! line as in the original.

/// One file of the tree, in the three views that the rules look at.
pub struct Source {
    /// Path inside the checkout, with forward slashes: `src/hub/mod.rs`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// The same length, with comments, literals and `#[cfg(test)]` items replaced by spaces.
    pub production: String,
    /// Lines that are not part of a `#[cfg(test)]` item.
    pub production_lines: usize,
}

impl Source {
    /// Reads `text` as the content of the file at `path`.
    pub fn new(path: &str, text: &str) -> Source {
        let code = blank_comments_and_literals(text);
        let (production, test_lines) = blank_test_items(&code);
        let production_lines = text.lines().count().saturating_sub(test_lines);
        Source { path: path.replace('\\', "/"), text: text.to_owned(), production, production_lines }
    }

    /// True for a file that holds nothing but tests.
    pub fn is_test_file(&self) -> bool {
        let path = &self.path;
        path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
    }

    /// The first folder or file below `src/`, without its ending: the module that the import table speaks of.
    pub fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next().unwrap_or(below);
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// How many `super::` lead from this file's module to the crate root; 0 for the roots themselves.
    pub fn depth(&self) -> usize {
        let Some(below) = self.path.strip_prefix("src/") else { return 0 };
        match below {
            "lib.rs" | "main.rs" => 0,
            _ => below.split('/').filter(|part| *part != "mod.rs").count(),
        }
    }

    /// The line, counted from 1, of a byte position.
    pub fn line_of(&self, position: usize) -> usize {
        self.text.as_bytes()[..position].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Where `word` occurs in the production view, not as a part of a longer identifier.
    pub fn find_words(&self, word: &str) -> Vec<usize> {
        find_words(&self.production, word)
    }
}

/// Where `word` occurs in `code` and neither of its ends lies inside a longer identifier.
pub fn find_words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let inside_identifier = |end: usize| {
        let (before, behind) = (end.checked_sub(1).and_then(|index| bytes.get(index)), bytes.get(end));
        before.is_some_and(|byte| is_identifier(*byte)) && behind.is_some_and(|byte| is_identifier(*byte))
    };
    code.match_indices(word)
        .map(|(position, _)| position)
        .filter(|position| !inside_identifier(*position) && !inside_identifier(position + word.len()))
        .collect()
}

/// True for a byte that can be part of an identifier.
pub fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The position just behind the bracket that closes the one at `open`; the end of the code if it never closes.
pub fn behind_bracket(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    code.len()
}

/// Replaces comments and the inside of string and character literals by spaces; newlines stay.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !(at > 0 && is_identifier(bytes[at - 1]) && bytes[at - 1] != b'b') => {
                raw_string_end(bytes, at)
            }
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        blank(&mut out, at, end);
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were replaced")
}

fn blank(out: &mut [u8], start: usize, end: usize) {
    for byte in &mut out[start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |offset| start + offset)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"` or `r#"…"#`; `start` itself if this `r` does not open one.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return start;
    }
    let closing = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = start + 2 + hashes;
    bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing)
        .map_or(bytes.len(), |offset| body + offset + closing.len())
}

/// The end of a character literal; `start` itself for a lifetime.
fn character_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => {
            bytes[start + 3..].iter().position(|byte| *byte == b'\'').map_or(start, |o| start + 4 + o)
        }
        Some(byte) => {
            let width = match byte {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if bytes.get(start + 1 + width) == Some(&b'\'') { start + 2 + width } else { start }
        }
        None => start,
    }
}

/// Blanks every item under `#[cfg(test)]` and counts the lines that such items take.
fn blank_test_items(code: &str) -> (String, usize) {
    let mut out = code.as_bytes().to_vec();
    let mut lines = 0;
    let mut behind = 0;
    for (start, _) in code.match_indices("#[cfg(test)]") {
        if start < behind {
            continue;
        }
        let end = item_end(code, start + "#[cfg(test)]".len());
        lines += code[start..end].matches('\n').count() + 1;
        blank(&mut out, start, end);
        behind = end;
    }
    (String::from_utf8(out).expect("whole characters were replaced"), lines)
}

/// The end of the item that begins at or behind `start`: its semicolon, or the brace that closes its body.
fn item_end(code: &str, start: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at + 1,
            b'}' => return at,
            b'{' => return behind_bracket(code, at),
            b'[' | b'(' => at = behind_bracket(code, at),
            _ => at += 1,
        }
    }
    code.len()
}
