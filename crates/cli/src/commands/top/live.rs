//! The cluster on the terminal, looked at again and again until a key ends it.

use super::draw::{self, Drawn, Frame};
use super::look::{Look, Wanted, look};
use super::pages;
use super::picture::Picture;
use super::terminal::{Input, Taken};
use super::view::{PageName, Then, View};
use crate::exit::Failure;
use quorate_client::Client;
use std::future::pending;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the screen is drawn anew at least: it says how old what it shows is.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Shows the cluster until the user has seen enough.
pub(super) async fn run(
    client: Client,
    view: View,
    frame: Frame,
    interval: Duration,
) -> Result<(), Failure> {
    // Ctrl-C is a key as long as the terminal is taken over.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut taken = Taken::take()?;
    let mut live = Live {
        client,
        view,
        frame,
        picture: Picture::default(),
        looking: None,
        interval,
        at_once: true,
        next: Instant::now(),
        drawn: Drawn::default(),
    };
    loop {
        live.draw(&mut taken)?;
        live.look_if_due();
        let due = if live.view.paused { None } else { Some(live.next) };
        let redraw = Instant::now() + DRAW_EVERY;
        let wake = due.filter(|_| live.looking.is_none()).map_or(redraw, |due| due.min(redraw));
        tokio::select! {
            input = taken.inputs.recv() => match input {
                Some(Ok(Input::Pressed(key))) => {
                    let columns = pages::columns(live.view.page).len();
                    match live.view.press(key, live.drawn.rows, columns) {
                        Then::Quit => return Ok(()),
                        Then::Draw => {}
                        Then::Look => live.look_now(),
                        Then::LookAnew => live.look_anew(),
                    }
                }
                Some(Ok(Input::Resized)) => {}
                Some(Err(error)) => {
                    return Err(anyhow::Error::new(error).context("can't read keys").into());
                }
                None => return Err(anyhow::anyhow!("the thread that reads keys is gone").into()),
            },
            look = seen(&mut live.looking) => {
                live.looking = None;
                live.picture.take(look);
            }
            () = tokio::time::sleep_until(wake) => {}
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
}

/// Waits for the look that goes on, if one does.
async fn seen(looking: &mut Option<JoinHandle<Look>>) -> Look {
    match looking {
        // It is aborted only together with its handle.
        Some(task) => task.await.expect("looking does not panic"),
        None => pending().await,
    }
}

struct Live {
    client: Client,
    view: View,
    frame: Frame,
    picture: Picture,
    /// What is being looked at.
    looking: Option<JoinHandle<Look>>,
    /// From the beginning of a look to that of the next.
    interval: Duration,
    /// When the next look begins.
    next: Instant,
    /// Something is to be looked at without waiting, also in a pause.
    at_once: bool,
    drawn: Drawn,
}

impl Live {
    fn draw(&mut self, taken: &mut Taken) -> Result<(), Failure> {
        let Self { view, frame, picture, drawn, .. } = self;
        let now = Instant::now();
        taken.terminal.draw(|screen| {
            *drawn = draw::screen(screen.buffer_mut(), frame, picture, view, now);
        })?;
        // What lies beyond the end is not to be scrolled back.
        view.scroll = view.scroll.min(drawn.scroll_max());
        Ok(())
    }

    fn look_if_due(&mut self) {
        let due = !self.view.paused && self.next <= Instant::now();
        if self.looking.is_some() || !(due || self.at_once) {
            return;
        }
        let page = self.view.page;
        let pages = if page == PageName::Cluster { Vec::new() } else { vec![page] };
        let wanted = Wanted { pages, filter: self.view.filter.clone() };
        self.looking = Some(tokio::spawn(look(self.client.clone(), wanted)));
        self.at_once = false;
        self.next = Instant::now() + self.interval;
    }

    /// What was asked for before is not what is to be seen now.
    fn look_now(&mut self) {
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
        self.at_once = true;
    }

    fn look_anew(&mut self) {
        self.picture.queues.forget();
        self.picture.locks.forget();
        self.picture.bus.forget();
        self.look_now();
    }
}
