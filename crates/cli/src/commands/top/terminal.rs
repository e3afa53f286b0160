//! The terminal: taken over while there is something to draw on it, and given back whatever happens.

use super::view::Key;
use crate::exit::Failure;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the thread that reads keys may go on after the end.
const POLL: Duration = Duration::from_millis(200);
/// Keys that were pressed and not taken yet; who holds one down needs no more.
const KEYS_MAX: usize = 64;

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Pressed(Key),
    /// It has another size.
    Resized,
}

/// The terminal in raw mode, on its other screen. Dropped, it is as it was before; a panic gives it
/// back before its message is written.
pub(super) struct Taken {
    pub(super) terminal: DefaultTerminal,
    pub(super) inputs: mpsc::Receiver<io::Result<Input>>,
    ended: Arc<AtomicBool>,
}

impl Taken {
    pub(super) fn take() -> Result<Self, Failure> {
        let terminal = ratatui::try_init().inspect_err(|_| {
            // It may have been taken over by half.
            let _ = ratatui::try_restore();
        });
        let terminal = terminal
            .map_err(|error| anyhow::Error::new(error).context("can't draw on this terminal"))?;
        let (keys, inputs) = mpsc::channel(KEYS_MAX);
        let ended = Arc::<AtomicBool>::default();
        let taken = Self { terminal, inputs, ended: Arc::clone(&ended) };
        // Reading blocks; a runtime would wait for it at its end.
        let reader = std::thread::Builder::new().name("keys".to_owned());
        reader
            .spawn(move || read(&keys, &ended))
            .map_err(|error| anyhow::Error::new(error).context("can't read keys"))?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Nothing could be done, and nobody told.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

fn read(keys: &mpsc::Sender<io::Result<Input>>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let input = match event::poll(POLL) {
            Ok(true) => event::read().map(input).transpose(),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        match input {
            Some(Err(error)) => {
                let _ = keys.blocking_send(Err(error));
                return;
            }
            // The loop takes them as fast as it draws; whoever presses more keys loses them.
            Some(input) => drop(keys.try_send(input)),
            None => {}
        }
    }
}

fn input(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) => pressed(key).map(Input::Pressed),
        Event::Resize(..) => Some(Input::Resized),
        _ => None,
    }
}

fn pressed(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab | KeyCode::Right => Key::Tab,
        KeyCode::BackTab | KeyCode::Left => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_they_are_pressed_for() {
        let event = |code, modifiers| input(Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(event(KeyCode::Char('c'), none), Some(Input::Pressed(Key::Char('c'))));
        let control = KeyModifiers::CONTROL;
        assert_eq!(event(KeyCode::Char('c'), control), Some(Input::Pressed(Key::Interrupt)));
        assert_eq!(event(KeyCode::Char('q'), control), None);
        let back = event(KeyCode::BackTab, KeyModifiers::SHIFT);
        assert_eq!(back, Some(Input::Pressed(Key::BackTab)));
        assert_eq!(event(KeyCode::F(1), none), None);
        assert_eq!(input(Event::Resize(80, 24)), Some(Input::Resized));
        let released = KeyEvent::new_with_kind(KeyCode::Tab, none, KeyEventKind::Release);
        assert_eq!(input(Event::Key(released)), None);
    }
}
