//! One JSON object per line, taken apart without building anything: keys in order, values as slices of the line.
//!
//! Only the structure is checked here; what a value must be, its decoder says. A nested value is one slice.

use memchr::memchr;

/// Start and end of a value in a text [bytes].
pub(crate) type Place = (usize, usize);

/// Where a line stops being a JSON object [bytes from its start], and what belongs there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadJson {
    pub(crate) at: usize,
    pub(crate) expected: &'static str,
}

/// A value: a slice of the line, strings without their quotes.
#[derive(Clone, Copy)]
struct Value {
    start: usize,
    end: usize,
    escaped: bool,
    quoted: bool,
}

/// The keys of an object, in order.
pub(crate) fn keys(line: &[u8]) -> Result<Vec<&[u8]>, BadJson> {
    let mut keys = Vec::new();
    members(line, |key, _| keys.push(key))?;
    Ok(keys)
}

/// A value inside nested objects that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    /// Keys, the outermost first; two at least.
    pub(crate) keys: Vec<String>,
    /// Its place among the fields.
    pub(crate) field: usize,
}

/// Finds the value of each named key and path; the fields index the bytes that are returned. What is missing and `null` are
/// empty; further keys are passed over. `fields` has as many places as names and paths need.
pub(crate) fn split<'a>(
    line: &'a [u8],
    names: &[String],
    paths: &[Path],
    fields: &mut [Place],
    unescaped: &'a mut Vec<u8>,
) -> Result<&'a [u8], BadJson> {
    fields.fill((0, 0));
    let is = |at: usize, key: &[u8]| names.get(at).is_some_and(|name| name.as_bytes() == key);
    let mut next = 0;
    let mut any_escaped = false;
    let place = |value: Value| if is_null(line, value) { (0, 0) } else { (value.start, value.end) };
    members(line, |key, value| {
        // Keys come in the order of the first line, as a rule.
        let known = if is(next, key) { Some(next) } else { (0..names.len()).find(|&at| is(at, key)) };
        if let Some(at) = known {
            fields[at] = place(value);
            any_escaped |= value.escaped;
            next = at + 1;
        }
        for path in paths.iter().filter(|path| path.keys[0].as_bytes() == key) {
            if let Some(inner) = inside(line, value, &path.keys[1..]) {
                fields[path.field] = place(inner);
                any_escaped |= inner.escaped;
            }
        }
    })?;
    if !any_escaped {
        return Ok(line);
    }
    unescaped.clear();
    for field in fields {
        let start = unescaped.len();
        unescape(&line[field.0..field.1], unescaped);
        *field = (start, unescaped.len());
    }
    Ok(unescaped)
}

fn is_null(line: &[u8], value: Value) -> bool {
    &line[value.start..value.end] == b"null" && line.get(value.end) != Some(&b'"')
}

/// The value that a path of keys leads to; `None` if there is none.
fn inside(line: &[u8], value: Value, keys: &[String]) -> Option<Value> {
    let Some((first, rest)) = keys.split_first() else { return Some(value) };
    let object = &line[value.start..value.end];
    if value.quoted || object.first() != Some(&b'{') {
        return None;
    }
    let mut found = None;
    // What is not an object in there has no keys; the line itself has been read already.
    members(object, |key, inner| {
        if key == first.as_bytes() {
            found = Some(Value { start: value.start + inner.start, end: value.start + inner.end, ..inner });
        }
    })
    .ok()?;
    inside(line, found?, rest)
}

/// Objects inside objects that are looked into.
const DEPTH_MAX: usize = 8;

/// Calls `each` with the keys that lead to every value in the objects nested in this one, lists being values.
pub(crate) fn nested<'a>(line: &'a [u8], each: &mut dyn FnMut(&[&'a [u8]])) -> Result<(), BadJson> {
    descend(line, &mut Vec::new(), each)
}

fn descend<'a>(object: &'a [u8], above: &mut Vec<&'a [u8]>, each: &mut dyn FnMut(&[&'a [u8]])) -> Result<(), BadJson> {
    let mut members_of = Vec::new();
    members(object, |key, value| members_of.push((key, value)))?;
    for (key, value) in members_of {
        let inner = &object[value.start..value.end];
        above.push(key);
        if inner.first() == Some(&b'{') && !value.quoted && above.len() < DEPTH_MAX {
            descend(inner, above, each)?;
        } else if above.len() > 1 {
            each(above);
        }
        above.pop();
    }
    Ok(())
}

/// Whether a value that begins here is a list (`[`) or an object (`{`), and no string that begins so.
pub(crate) fn opens(text: &[u8], (start, _): Place, bracket: u8) -> bool {
    text.get(start) == Some(&bracket) && (start == 0 || text[start - 1] != b'"')
}

/// Start and end in a text of every item of a list in it; `None` if the value there is no list.
pub(crate) fn items_at(text: &[u8], at: Place) -> Result<Option<Vec<Place>>, BadJson> {
    if !opens(text, at, b'[') {
        return Ok(None);
    }
    let found = items(&text[at.0..at.1]).map_err(|error| BadJson { at: at.0 + error.at, ..error })?;
    Ok(found.map(|items| items.into_iter().map(|(start, end)| (at.0 + start, at.0 + end)).collect()))
}

/// Start and end of every value in a list; `None` if the text is no list.
fn items(list: &[u8]) -> Result<Option<Vec<Place>>, BadJson> {
    let mut scan = Scan { line: list, at: 0 };
    if !scan.accept(b'[') {
        return Ok(None);
    }
    let mut items = Vec::new();
    if !scan.accept(b']') {
        loop {
            let value = scan.value()?;
            items.push((value.start, value.end));
            if scan.accept(b']') {
                break;
            }
            scan.expect(b',', "`,` or `]` after an item")?;
        }
    }
    if scan.peek().is_some() { Err(scan.bad("the end of the text after `]`")) } else { Ok(Some(items)) }
}

/// Start and end of every value of a text: one document, or one after the other.
pub(crate) fn values(text: &[u8]) -> Result<Vec<Place>, BadJson> {
    let mut scan = Scan { line: text, at: 0 };
    let mut values = Vec::new();
    while scan.peek().is_some() {
        let value = scan.value()?;
        values.push((value.start, value.end));
    }
    Ok(values)
}

/// The values of an object by key, each with its start and end.
pub(crate) fn entries(object: &[u8]) -> Result<Vec<(&[u8], Place)>, BadJson> {
    let mut entries = Vec::new();
    members(object, |key, value| entries.push((key, (value.start, value.end))))?;
    Ok(entries)
}

/// Calls `each` with every key and value of the object that the line is.
fn members<'a>(line: &'a [u8], mut each: impl FnMut(&'a [u8], Value)) -> Result<(), BadJson> {
    let mut scan = Scan { line, at: 0 };
    scan.expect(b'{', "a JSON object, like {\"timestamp\": 0}")?;
    if !scan.accept(b'}') {
        loop {
            scan.expect(b'"', "a key in quotes")?;
            let key = scan.string()?;
            scan.expect(b':', "`:` after a key")?;
            let value = scan.value()?;
            each(&line[key.start..key.end], value);
            if scan.accept(b'}') {
                break;
            }
            scan.expect(b',', "`,` or `}` after a value")?;
        }
    }
    if scan.peek().is_some() { Err(scan.bad("the end of the line after `}`")) } else { Ok(()) }
}

struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.line.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), BadJson> {
        if self.accept(byte) { Ok(()) } else { Err(self.bad(expected)) }
    }

    #[cold]
    fn bad(&self, expected: &'static str) -> BadJson {
        BadJson { at: self.at, expected }
    }

    /// The rest of a string whose opening quote has been passed.
    fn string(&mut self) -> Result<Value, BadJson> {
        let start = self.at;
        let mut escaped = false;
        while let Some(&byte) = self.line.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(Value { start, end: self.at - 1, escaped, quoted: true });
                }
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.line.len();
        Err(self.bad("the closing quote of a string"))
    }

    fn value(&mut self) -> Result<Value, BadJson> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string()
            }
            Some(b'[' | b'{') => self.nested(),
            _ => {
                let start = self.at;
                let ends =
                    |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b':' | b'{' | b'[');
                let length = self.line[start..].iter().take_while(|b| !ends(b)).count();
                self.at += length;
                if length == 0 {
                    return Err(self.bad("a value"));
                }
                Ok(Value { start, end: self.at, escaped: false, quoted: false })
            }
        }
    }

    /// An array or an object, brackets included.
    fn nested(&mut self) -> Result<Value, BadJson> {
        let start = self.at;
        // A flat list of numbers, almost always.
        if self.line[start] == b'['
            && let Some(length) = memchr(b']', &self.line[start..])
            && !self.line[start + 1..start + length].iter().any(|b| matches!(b, b'[' | b'{' | b'"'))
        {
            self.at += length + 1;
            return Ok(Value { start, end: self.at, escaped: false, quoted: false });
        }
        let mut depth = 0usize;
        while let Some(&byte) = self.line.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => drop(self.string()?),
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(Value { start, end: self.at, escaped: false, quoted: false });
                    }
                }
                _ => {}
            }
        }
        Err(self.bad("the closing bracket of a list or object"))
    }
}

/// Resolves the escapes of a string. An escape that JSON does not have stands for itself.
fn unescape(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        into.extend_from_slice(&rest[..at]);
        let (escape, used) = match &rest[at + 1..] {
            [b'n', ..] => ('\n', 2),
            [b't', ..] => ('\t', 2),
            [b'r', ..] => ('\r', 2),
            [b'b', ..] => ('\u{8}', 2),
            [b'f', ..] => ('\u{c}', 2),
            [b'u', digits @ ..] => code_point(digits).map_or(('\u{fffd}', 2), |(char, used)| (char, used + 2)),
            [byte, ..] if byte.is_ascii() => (char::from(*byte), 2),
            _ => ('\\', 1),
        };
        into.extend_from_slice(escape.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + used..];
    }
    into.extend_from_slice(rest);
}

/// What `\u` escapes: one unit, or two that make a pair; and the bytes that it takes.
fn code_point(digits: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let text = std::str::from_utf8(digits.get(at..at + 4)?).ok()?;
        text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
    };
    let high = unit(0)?;
    if let Some(char) = char::from_u32(high) {
        return Some((char, 4));
    }
    let low = (digits.get(4..6) == Some(b"\\u")).then(|| unit(6)).flatten()?;
    let pair = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
    let char = pair.then(|| char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))).flatten()?;
    Some((char, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &str, names: &[&str]) -> Result<Vec<String>, BadJson> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (mut fields, mut unescaped) = (vec![(0, 0); names.len()], Vec::new());
        let bytes = split(line.as_bytes(), &names, &[], &mut fields, &mut unescaped)?;
        Ok(fields.iter().map(|&(start, end)| String::from_utf8_lossy(&bytes[start..end]).into_owned()).collect())
    }

    #[test]
    fn values_are_found_by_key() {
        let line = r#" { "a" : 1.5e3 ,"b":"x, }", "c": [1, 2, 3],"d":{"e":["]",{}]},"f":null, "g":"null"} "#;
        let found = values(line, &["g", "a", "b", "c", "d", "f", "h"]).expect("an object");
        assert_eq!(found, ["null", "1.5e3", "x, }", "[1, 2, 3]", "{\"e\":[\"]\",{}]}", "", ""]);
        assert_eq!(values("{}", &["a"]).expect("empty"), [""]);
        let escaped = r#"{"a":"tab\there \u00e9 \ud83d\ude00 \"\\","b":2}"#;
        assert_eq!(values(escaped, &["b", "a"]).expect("escapes"), ["2", "tab\there é 😀 \"\\"]);
    }

    #[test]
    fn values_in_nested_objects_are_found_by_path() {
        let line = r#"{"a\n":"\u00e9","u":{"in":12,"d":{"x":"}\"","n":null}},"l":[{"x":3}],"s":"{"}"#;
        let path = |text: &str, field| Path { keys: text.split('.').map(str::to_owned).collect(), field };
        let paths = [path("u.in", 1), path("u.d.x", 2), path("u.d.n", 3), path("l.x", 4), path("s.in", 5)];
        let (mut fields, mut unescaped) = ([(9, 9); 6], Vec::new());
        let names = ["u".to_owned()];
        let bytes = split(line.as_bytes(), &names, &paths, &mut fields, &mut unescaped).expect("an object");
        let found = fields.map(|(start, end)| String::from_utf8_lossy(&bytes[start..end]).into_owned());
        assert_eq!(found[1..], ["12", "}\"", "", "", ""]);
        let mut leaves = Vec::new();
        let text = |keys: &[&[u8]]| keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>().join(".");
        nested(line.as_bytes(), &mut |keys| leaves.push(text(keys))).expect("an object");
        assert_eq!(leaves, ["u.in", "u.d.x", "u.d.n"]);
    }

    #[test]
    fn items_of_a_list() {
        let cut = |list: &'static str| {
            let items = items(list.as_bytes()).expect(list)?;
            Some(items.into_iter().map(|(start, end)| &list[start..end]).collect::<Vec<_>>())
        };
        assert_eq!(cut("[1,\n\"a\", {\"b\": [2]}]"), Some(vec!["1", "a", "{\"b\": [2]}"]));
        assert_eq!((cut("[ ]"), cut("{}")), (Some(vec![]), None));
        assert_eq!(items(b"[1 2]").expect_err("no comma").at, 3);
        assert_eq!(items(b"[1] 2").expect_err("more").at, 4);
    }

    #[test]
    fn a_broken_object_says_where() {
        let at = |line: &str| values(line, &["a"]).expect_err(line).at;
        assert_eq!(at("[1]"), 0);
        assert_eq!(at("{a:1}"), 1);
        assert_eq!(at(r#"{"a" 1}"#), 5);
        assert_eq!(at(r#"{"a":}"#), 5);
        assert_eq!(at(r#"{"a":1 "b":2}"#), 7);
        assert_eq!(at(r#"{"a":"x"#), 7);
        assert_eq!(at(r#"{"a":"x\"#), 8);
        assert_eq!(at(r#"{"a":[1,[2]"#), 11);
        assert_eq!(at(r#"{"a":1} x"#), 8);
    }
}
