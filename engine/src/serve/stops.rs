//! Stop texts: what ends an answer and does not show.

/// Looks for stop texts in text that comes in parts. What might be the beginning of one is held back.
#[derive(Clone, Default, Debug)]
pub(super) struct Stops {
    texts: Vec<String>,
    held: String,
}

impl Stops {
    pub(super) fn new(texts: Vec<String>) -> Self {
        Stops { texts, held: String::new() }
    }

    /// Takes a part in. Returns what may be shown, and the stop text if the answer ends before it.
    pub(super) fn push(&mut self, part: &str) -> (String, Option<String>) {
        if self.texts.is_empty() {
            return (part.to_owned(), None);
        }
        self.held.push_str(part);
        let found = self.texts.iter().filter_map(|stop| Some((self.held.find(stop)?, stop))).min_by_key(|&(at, _)| at);
        if let Some((at, stop)) = found {
            let stop = stop.clone();
            self.held.truncate(at);
            return (self.finish(), Some(stop));
        }
        let begins = |from: &usize| self.texts.iter().any(|stop| stop.starts_with(&self.held[*from..]));
        let cut = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(cut);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What is held back, at the end.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stops: &[&str], parts: &[&str]) -> (Vec<String>, Option<String>) {
        let mut stops = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut shown = Vec::new();
        for part in parts {
            let (text, stop) = stops.push(part);
            shown.push(text);
            if stop.is_some() {
                return (shown, stop);
            }
        }
        shown.push(stops.finish());
        (shown, None)
    }

    #[test]
    fn a_stop_text_is_found_across_parts_and_never_shows() {
        let (texts, stop) = shown(&["END"], &["aE", "N", "Dx"]);
        assert_eq!((texts.concat(), stop.as_deref()), ("a".to_owned(), Some("END")));
        assert_eq!(texts, ["a", "", ""], "the beginning is held back");
    }

    #[test]
    fn what_only_began_like_one_shows_in_the_end() {
        let (texts, stop) = shown(&["END"], &["aEN", "x", "E"]);
        assert_eq!((texts, stop), (vec!["a".to_owned(), "ENx".into(), String::new(), "E".into()], None));
    }

    #[test]
    fn the_first_of_several_ends_it() {
        let (texts, stop) = shown(&["ü", "b"], &["a€bü"]);
        assert_eq!((texts.concat(), stop.as_deref()), ("a€".to_owned(), Some("b")));
        assert_eq!(shown(&[], &["a", "b"]).0.concat(), "ab");
    }
}
