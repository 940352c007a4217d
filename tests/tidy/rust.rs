//! Rust source as far as the rules need it: code without comments, texts and tests.

/// The source with comments, characters and the insides of string literals blanked out; line breaks stay, so that places do.
pub(crate) fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            [b'/', b'*', ..] => block_comment(bytes, at),
            [b'"', ..] => string(bytes, at),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => raw_string(bytes, at).unwrap_or(at),
            [b'\'', ..] => character(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out[at] = bytes[at];
            at += 1;
        } else {
            for place in at..end {
                out[place] = if bytes[place] == b'\n' { b'\n' } else { b' ' };
            }
            at = end;
        }
    }
    String::from_utf8(out.into_iter().map(|byte| if byte.is_ascii() { byte } else { b'x' }).collect()).expect("ASCII")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    (from..bytes.len()).find(|&at| bytes[at..].starts_with(what))
}

/// Whether the byte before is part of the same word, as the `r` of `for` is.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Block comments nest.
fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of `r"…"` or `r#"…"#`; `None` if it is a raw name like `r#type`.
fn raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = start + 1 + hashes;
    (bytes.get(open) == Some(&b'"')).then_some(())?;
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    Some(find(bytes, open + 1, &close).map_or(bytes.len(), |at| at + close.len()))
}

/// The end of `'a'` or `'\n'`; `None` if it is a lifetime.
fn character(bytes: &[u8], start: usize) -> Option<usize> {
    let after = start + 1;
    if bytes.get(after) == Some(&b'\\') {
        return find(bytes, after + 2, b"'").map(|at| at + 1);
    }
    let length = std::str::from_utf8(&bytes[after..bytes.len().min(after + 4)])
        .unwrap_or_else(|error| std::str::from_utf8(&bytes[after..after + error.valid_up_to()]).expect("valid"))
        .chars()
        .next()?
        .len_utf8();
    (bytes.get(after + length) == Some(&b'\'')).then_some(after + length + 1)
}

/// Code without its inline test modules, `#[cfg(test)] mod tests { … }`.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut rest = code;
    let mut out = String::new();
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out += before;
        let item = after.find(['{', ';']).filter(|&at| after.as_bytes()[at] == b'{');
        rest = match item {
            Some(open) => &after[block(&after[open..]).map_or(after.len(), |length| open + length)..],
            None => after,
        };
    }
    out + rest
}

/// Length of the block that the code begins with, braces included.
pub(crate) fn block(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[test]
fn comments_texts_and_characters_are_no_code() {
    let source = "a /* { /* } */ */ \"b \\\" {\" r#\"c \" }\"# '{' '\\'' fn f<'d>(x: &'d str) // e\n'é' g";
    let code = code(source);
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "fn", "f<'d>(x:", "&'d", "str)", "g"]);
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn tests_inside_are_left_out() {
    let code = "use a;\n#[cfg(test)]\nmod tests { use b; fn f() { c } }\n#[cfg(test)]\nmod sample;\nuse d;";
    let kept = without_tests(code);
    assert!(kept.contains("use a;") && kept.contains("use d;") && kept.contains("mod sample;"), "{kept}");
    assert!(!kept.contains("use b;"), "{kept}");
}
