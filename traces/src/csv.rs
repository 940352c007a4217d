//! Lines of separated fields: commas, or semicolons or tabs where the header has those and no comma.

use memchr::memchr;

/// What separates the fields of a file with this header: comma, semicolon or tab, whichever stands there outside of quotes; the
/// comma where several do.
pub(crate) fn separator(header: &[u8]) -> u8 {
    let mut inside = false;
    let mut seen = [false; 3];
    for byte in header {
        match byte {
            b'"' => inside = !inside,
            _ if inside => {}
            b',' => seen[0] = true,
            b';' => seen[1] = true,
            b'\t' => seen[2] = true,
            _ => {}
        }
    }
    match seen {
        [false, true, _] => b';',
        [false, false, true] => b'\t',
        _ => b',',
    }
}

/// Cuts a line at its separators and takes quotes off; the fields index the bytes that are returned.
pub(crate) fn split<'a>(
    line: &'a [u8],
    separator: u8,
    fields: &mut Vec<(usize, usize)>,
    unquoted: &'a mut Vec<u8>,
) -> &'a [u8] {
    fields.clear();
    if memchr(b'"', line).is_some() {
        return split_quoted(line, separator, fields, unquoted);
    }
    let mut start = 0;
    for (at, &byte) in line.iter().enumerate() {
        if byte == separator {
            fields.push((start, at));
            start = at + 1;
        }
    }
    fields.push((start, line.len()));
    line
}

fn split_quoted<'a>(
    line: &[u8],
    separator: u8,
    fields: &mut Vec<(usize, usize)>,
    unquoted: &'a mut Vec<u8>,
) -> &'a [u8] {
    unquoted.clear();
    let (mut start, mut inside) = (0, false);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if inside && bytes.peek() == Some(&b'"') => {
                bytes.next();
                unquoted.push(b'"');
            }
            b'"' => inside = !inside,
            _ if byte == separator && !inside => {
                fields.push((start, unquoted.len()));
                start = unquoted.len();
            }
            _ => unquoted.push(byte),
        }
    }
    fields.push((start, unquoted.len()));
    unquoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        cut(line, b',')
    }

    fn cut(line: &str, separator: u8) -> Vec<String> {
        let (mut fields, mut unquoted) = (Vec::new(), Vec::new());
        let bytes = split(line.as_bytes(), separator, &mut fields, &mut unquoted);
        fields.iter().map(|&(start, end)| String::from_utf8_lossy(&bytes[start..end]).into_owned()).collect()
    }

    #[test]
    fn lines_split_at_commas_outside_quotes() {
        assert_eq!(fields("1,,x"), ["1", "", "x"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields(r#""1","a, b","say ""hi""",2"#), ["1", "a, b", "say \"hi\"", "2"]);
        assert_eq!(fields(r#"1,"open,2"#), ["1", "open,2"]);
    }

    #[test]
    fn the_header_says_what_separates() {
        assert_eq!(separator(b"a,b;c"), b',');
        assert_eq!(separator(b"\"a,b\";c"), b';');
        assert_eq!(separator(b"a\tb"), b'\t');
        assert_eq!(separator(b"a"), b',');
        assert_eq!(cut("1;\"2;3\";4,5", b';'), ["1", "2;3", "4,5"]);
    }
}
