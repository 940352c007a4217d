//! The columns of a table: names of the header line, or keys of the first objects and of the objects nested in them.

use crate::json;
use crate::quote::shorten;

/// Objects that are looked at for keys.
pub(crate) const SAMPLE: usize = 64;

/// Paths into nested objects that are known at most; a file with more has data for keys.
const PATHS_MAX: usize = 1024;

/// Columns of a file, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// First the keys of the objects themselves, then `outer.inner` for every value in a nested object, then keys of what is
    /// around the objects.
    names: Vec<String>,
    is_json: bool,
    /// The keys that lead to the values behind the first names.
    paths: Vec<Vec<String>>,
    /// Names of keys around the objects, at the end.
    around: usize,
}

impl Header {
    /// Columns that a header line or a footer names.
    pub(crate) fn flat(names: Vec<String>) -> Header {
        Header { names, is_json: false, paths: Vec::new(), around: 0 }
    }

    /// Columns of JSON, by name.
    pub(crate) fn named(names: Vec<String>) -> Header {
        Header { is_json: true, ..Header::flat(names) }
    }

    /// The keys of objects, with those of the objects nested in them and of an object around them. Objects that are broken are
    /// passed over, for their row says so; `None` if a key is not UTF-8.
    pub(crate) fn of_objects<'a>(objects: impl Iterator<Item = &'a [u8]>, around: Option<&[u8]>) -> Option<Header> {
        let (mut names, mut paths) = (Vec::<String>::new(), Vec::<Vec<String>>::new());
        let mut text = true;
        let mut word = |bytes: &[u8]| {
            let word = std::str::from_utf8(bytes).map(str::to_owned);
            text &= word.is_ok();
            word.unwrap_or_default()
        };
        for object in objects.take(SAMPLE) {
            let Ok(keys) = json::keys(object) else { continue };
            for key in keys {
                // A key that stands twice in one object is one column; `twice` is for header lines.
                let key = word(key);
                if !names.contains(&key) {
                    names.push(key);
                }
            }
            let _ = json::nested(object, &mut |keys| {
                let path: Vec<String> = keys.iter().map(|key| word(key)).collect();
                if paths.len() < PATHS_MAX && !paths.contains(&path) {
                    paths.push(path);
                }
            });
        }
        paths.retain(|path| !names.contains(&path.join(".")));
        let outer = around.map(|object| json::entries(object).unwrap_or_default()).unwrap_or_default();
        let scalar = |object: &[u8], at: usize| !matches!(object.get(at), Some(b'{' | b'['));
        let outer = outer.iter().filter(|(_, (start, _))| around.is_some_and(|object| scalar(object, *start)));
        let outer: Vec<String> = outer.map(|(key, _)| word(key)).filter(|key| !names.contains(key)).collect();
        let joined = paths.iter().map(|path| path.join("."));
        let names: Vec<String> = names.into_iter().chain(joined).chain(outer.iter().cloned()).collect();
        text.then_some(Header { names, is_json: true, paths, around: outer.len() })
    }

    /// Positions of columns, each given by its name or by alternatives with `|` between; else the missing ones.
    pub(crate) fn find(&self, columns: &'static [&'static str]) -> Result<Vec<usize>, Vec<&'static str>> {
        let found = columns.iter().map(|names| (names, self.one_of(names)));
        let missing: Vec<_> = found.clone().filter_map(|(names, at)| at.is_none().then_some(*names)).collect();
        if missing.is_empty() { Ok(found.filter_map(|(_, at)| at).collect()) } else { Err(missing) }
    }

    /// Position of the first of several names with `|` between that is a column.
    pub(crate) fn one_of(&self, names: &str) -> Option<usize> {
        names.split('|').find_map(|name| self.position(name))
    }

    /// Case and blanks around the name do not count.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column.eq_ignore_ascii_case(name.trim()))
    }

    /// Numbers, from 1, of the first two columns that have the name of this one, if there are two.
    pub(crate) fn twice(&self, column: usize) -> Option<(usize, usize)> {
        let name = &self.names[column];
        let mut alike = (1..).zip(&self.names).filter(|(_, other)| other.eq_ignore_ascii_case(name)).map(|(at, _)| at);
        Some((alike.next()?, alike.next()?))
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Keys of the objects themselves.
    pub(crate) fn keys(&self) -> &[String] {
        &self.names[..self.names.len() - self.paths.len() - self.around]
    }

    /// Keys around the objects, and the first one's position.
    pub(crate) fn around(&self) -> (usize, &[String]) {
        let at = self.names.len() - self.around;
        (at, &self.names[at..])
    }

    /// The paths to those of these columns that are values in nested objects.
    pub(crate) fn paths(&self, columns: &[usize]) -> Vec<json::Path> {
        let keys = self.keys().len();
        let path = |&field: &usize| {
            let path = self.paths.get(field.checked_sub(keys)?)?;
            Some(json::Path { keys: path.clone(), field })
        };
        let mut paths: Vec<json::Path> = columns.iter().filter_map(path).collect();
        paths.sort_by_key(|path| path.field);
        paths.dedup();
        paths
    }

    /// The header as one line, cut to a length that fits in a message.
    pub(crate) fn text(&self) -> String {
        shorten(&self.names.join(","))
    }
}
