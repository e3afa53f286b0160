//! What the user has chosen to see, and what keys change of that.

/// Characters of a filter.
const FILTER_CHARS_MAX: usize = 64;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PageName {
    /// The nodes, and how much is done.
    Cluster,
    /// Queues: depth, rates, the oldest job, dead letters.
    Queues,
    /// Locks: who holds them, how many wait.
    Locks,
    /// The cache: how full it is, and what reads find.
    Cache,
    /// Channels of the bus, and those who read too slowly.
    Bus,
    /// Sessions.
    Sessions,
}

impl PageName {
    pub(super) const ALL: [Self; 6] =
        [Self::Cluster, Self::Queues, Self::Locks, Self::Cache, Self::Bus, Self::Sessions];

    /// As it is written.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Queues => "queues",
            Self::Locks => "locks",
            Self::Cache => "cache",
            Self::Bus => "bus",
            Self::Sessions => "sessions",
        }
    }
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Control and C.
    Interrupt,
}

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// To draw what there is.
    Draw,
    /// To look at once: something else is to be seen.
    Look,
    /// The filter has changed: what was seen with the one before is of no use, too.
    LookAnew,
    /// To end.
    Quit,
}

/// What is seen.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) page: PageName,
    /// Rows above the first one that is shown.
    pub(super) scroll: usize,
    /// By which column each page is sorted.
    pub(super) sort_by: [usize; PageName::ALL.len()],
    /// What names have to have in them.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
}

impl View {
    pub(super) fn new(page: PageName) -> Self {
        // What there is most of comes first, where that is what one looks for.
        let sort_by = PageName::ALL.map(|page| match page {
            PageName::Queues | PageName::Locks | PageName::Bus => 1,
            PageName::Cluster | PageName::Cache | PageName::Sessions => 0,
        });
        let filter = String::new();
        Self { page, scroll: 0, sort_by, filter, typing: false, paused: false, help: false }
    }

    /// The column by which the page is sorted.
    pub(super) fn sort(&self) -> usize {
        self.sort_by[self.page as usize]
    }

    /// What a key does. `rows` fit on the screen, of a page that can be sorted by `columns`.
    pub(super) fn press(&mut self, key: Key, rows: usize, columns: usize) -> Then {
        match key {
            Key::Interrupt => return Then::Quit,
            key if self.typing => return self.typed(key),
            Key::Escape if self.help => self.help = false,
            Key::Escape if !self.filter.is_empty() => {
                self.filter.clear();
                return Then::LookAnew;
            }
            Key::Escape | Key::Char('q') => return Then::Quit,
            Key::Char('?' | 'h') => self.help = !self.help,
            Key::Char('/') => (self.typing, self.help) = (true, false),
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Then::Draw } else { Then::Look };
            }
            Key::Char('s') => {
                let sort = &mut self.sort_by[self.page as usize];
                *sort = (*sort + 1) % columns.max(1);
                self.scroll = 0;
            }
            Key::Char(digit @ '1'..='6') => return self.turn(digit as usize - '1' as usize),
            Key::Tab => return self.turn(self.page as usize + 1),
            Key::BackTab => return self.turn(self.page as usize + PageName::ALL.len() - 1),
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll = self.scroll.saturating_add(1),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(rows),
            Key::PageDown => self.scroll = self.scroll.saturating_add(rows),
            Key::Home | Key::Char('g') => self.scroll = 0,
            Key::End | Key::Char('G') => self.scroll = usize::MAX,
            Key::Char(_) | Key::Enter | Key::Backspace => {}
        }
        Then::Draw
    }

    fn typed(&mut self, key: Key) -> Then {
        match key {
            Key::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => {
                self.typing = false;
                return Then::Draw;
            }
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            _ => return Then::Draw,
        }
        self.scroll = 0;
        Then::LookAnew
    }

    fn turn(&mut self, page: usize) -> Then {
        self.page = PageName::ALL[page % PageName::ALL.len()];
        (self.scroll, self.help) = (0, false);
        Then::Look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, keys: &str) -> Then {
        keys.chars().map(|c| view.press(Key::Char(c), 10, 3)).last().expect("there are keys")
    }

    #[test]
    fn pages_are_turned_by_tab_and_by_number() {
        let mut view = View::new(PageName::Cluster);
        assert_eq!(view.press(Key::Tab, 10, 3), Then::Look);
        assert_eq!(view.page, PageName::Queues);
        assert_eq!(press(&mut view, "6"), Then::Look);
        assert_eq!(view.page, PageName::Sessions);
        view.press(Key::Tab, 10, 3);
        assert_eq!(view.page, PageName::Cluster);
        view.press(Key::BackTab, 10, 3);
        assert_eq!(view.page, PageName::Sessions);
    }

    #[test]
    fn it_is_quit_by_q_escape_and_control_c() {
        for key in [Key::Char('q'), Key::Escape, Key::Interrupt] {
            assert_eq!(View::new(PageName::Cluster).press(key, 10, 3), Then::Quit);
        }
    }

    #[test]
    fn escape_closes_what_is_open_first() {
        let mut view = View::new(PageName::Queues);
        press(&mut view, "?");
        assert!(view.help);
        assert_eq!(view.press(Key::Escape, 10, 3), Then::Draw);
        assert!(!view.help);
        press(&mut view, "/q");
        assert_eq!(view.press(Key::Enter, 10, 3), Then::Draw);
        assert_eq!((view.filter.as_str(), view.typing), ("q", false));
        assert_eq!(view.press(Key::Escape, 10, 3), Then::LookAnew);
        assert_eq!(view.filter, "");
        assert_eq!(view.press(Key::Escape, 10, 3), Then::Quit);
        // What is typed is no command, but for the one that always ends.
        press(&mut view, "/");
        assert_eq!(press(&mut view, "sp?1q"), Then::LookAnew);
        assert_eq!((view.filter.as_str(), view.page), ("sp?1q", PageName::Queues));
        view.press(Key::Backspace, 10, 3);
        assert_eq!(view.filter, "sp?1");
        press(&mut view, &"x".repeat(1_000));
        assert_eq!(view.filter.chars().count(), FILTER_CHARS_MAX);
        assert_eq!(view.press(Key::Interrupt, 10, 3), Then::Quit);
    }

    #[test]
    fn each_page_is_sorted_for_itself() {
        let mut view = View::new(PageName::Queues);
        assert_eq!(view.sort(), 1);
        press(&mut view, "s");
        assert_eq!(view.sort(), 2);
        press(&mut view, "s");
        assert_eq!(view.sort(), 0);
        press(&mut view, "s1");
        assert_eq!(view.sort(), 0);
        press(&mut view, "ss2");
        assert_eq!(view.sort(), 1);
        press(&mut view, "1");
        assert_eq!(view.sort(), 2);
        assert_eq!(view.press(Key::Char('s'), 10, 0), Then::Draw);
    }

    #[test]
    fn a_pause_ends_with_a_look() {
        let mut view = View::new(PageName::Queues);
        assert_eq!(press(&mut view, "p"), Then::Draw);
        assert!(view.paused);
        assert_eq!(press(&mut view, "p"), Then::Look);
        assert!(!view.paused);
    }

    #[test]
    fn rows_are_scrolled_by_one_and_by_the_screen() {
        let mut view = View::new(PageName::Queues);
        view.press(Key::Up, 10, 3);
        assert_eq!(view.scroll, 0);
        view.press(Key::Down, 10, 3);
        view.press(Key::PageDown, 10, 3);
        assert_eq!(view.scroll, 11);
        view.press(Key::PageUp, 10, 3);
        assert_eq!(view.scroll, 1);
        view.press(Key::End, 10, 3);
        view.press(Key::Down, 10, 3);
        assert_eq!(view.scroll, usize::MAX);
        view.press(Key::Home, 10, 3);
        assert_eq!(view.scroll, 0);
    }
}
