//! Records of separated fields (RFC 4180): commas, or semicolons or tabs where the header has those and no comma.
//!
//! A quote opens a field where nothing but blanks stands before it; elsewhere it is a character like any other, as in `5" pipe`.

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

/// How a record ends, as far as its text goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// All of its quotes are closed.
    Closed,
    /// A quote is open: the record goes on in the next line.
    Open,
    /// Behind a closing quote stands neither a separator nor the end.
    Astray,
}

/// Reads the quotes of a record, piece by piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotes {
    separator: u8,
    state: State,
    astray: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing but blanks of the field has been read.
    Start,
    /// In a field without quotes, or behind the closing quote and more.
    Plain,
    Inside,
    /// Behind a quote that closes, or is the first of two that mean one.
    Closing,
}

/// What a byte of a record is.
enum Part {
    /// Belongs to the field.
    Text,
    /// A quote, or the first of two.
    Quote,
    Separator,
}

impl Quotes {
    pub(crate) fn new(separator: u8) -> Quotes {
        Quotes { separator, state: State::Start, astray: false }
    }

    fn read(&mut self, byte: u8) -> Part {
        let (part, state) = match (self.state, byte) {
            (State::Start | State::Plain | State::Closing, byte) if byte == self.separator => {
                (Part::Separator, State::Start)
            }
            (State::Start, b'"') => (Part::Quote, State::Inside),
            (State::Start, b' ' | b'\t') => (Part::Text, State::Start),
            (State::Inside, b'"') => (Part::Quote, State::Closing),
            (State::Inside, _) | (State::Closing, b'"') => (Part::Text, State::Inside),
            (State::Closing, b' ' | b'\r') => (Part::Text, State::Closing),
            (State::Closing, _) => {
                self.astray = true;
                (Part::Text, State::Plain)
            }
            (State::Start | State::Plain, _) => (Part::Text, State::Plain),
        };
        self.state = state;
        part
    }

    /// Reads more of the record, and says how it ends by now.
    pub(crate) fn end(&mut self, piece: &[u8]) -> End {
        for &byte in piece {
            self.read(byte);
        }
        match (self.astray, self.state) {
            (true, _) => End::Astray,
            (_, State::Inside) => End::Open,
            _ => End::Closed,
        }
    }
}

/// Cuts a record at its separators and takes quotes off, if it is quoted; the fields index the bytes that are returned.
pub(crate) fn split<'a>(
    (line, quoted): (&'a [u8], bool),
    separator: u8,
    fields: &mut Vec<(usize, usize)>,
    unquoted: &'a mut Vec<u8>,
) -> &'a [u8] {
    fields.clear();
    if quoted {
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
    let (mut start, mut quotes) = (0, Quotes::new(separator));
    for &byte in line {
        match quotes.read(byte) {
            Part::Text => unquoted.push(byte),
            Part::Quote => {}
            Part::Separator => {
                fields.push((start, unquoted.len()));
                start = unquoted.len();
            }
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
        let bytes = split((line.as_bytes(), line.contains('"')), separator, &mut fields, &mut unquoted);
        fields.iter().map(|&(start, end)| String::from_utf8_lossy(&bytes[start..end]).into_owned()).collect()
    }

    #[test]
    fn lines_split_at_commas_outside_quotes() {
        assert_eq!(fields("1,,x"), ["1", "", "x"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields(r#""1","a, b","say ""hi""",2"#), ["1", "a, b", "say \"hi\"", "2"]);
        assert_eq!(fields(r#"1,"open,2"#), ["1", "open,2"]);
        assert_eq!(fields(r#"5" pipe, "a, b" ,2"#), ["5\" pipe", " a, b ", "2"]);
        assert_eq!(fields("1,\"two\nlines\",2"), ["1", "two\nlines", "2"]);
    }

    #[test]
    fn a_record_ends_where_its_quotes_are_closed() {
        let end = |text: &str| Quotes::new(b',').end(text.as_bytes());
        for text in ["", "1,2", "1,\"a\"", "\"say \"\"hi\"\"\",2", "5\" pipe,6\"", "1,\"a\" ,2", "\"\""] {
            assert_eq!(end(text), End::Closed, "{text}");
        }
        for text in ["\"", "1,\"open,2", "1,\"say \"\"hi\"\"", "1, \"a\nb"] {
            assert_eq!(end(text), End::Open, "{text}");
        }
        assert_eq!(end("1,\"a\"b,2"), End::Astray);
        let mut quotes = Quotes::new(b';');
        assert_eq!((quotes.end(b"1;\"a\n"), quotes.end(b"b;\";2")), (End::Open, End::Closed));
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
