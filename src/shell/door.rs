//! A port that follows its place, as the configuration moves it.
//!
//! One that cannot be had where it has to be is tried again and again: the rest of the server goes on. What a place is called
//! may be a name, and nothing waits for its resolver but the port itself.
//! Spec: quorum-protocol 16.5.

use std::cell::{Ref, RefCell};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use tracing::error;

use crate::shell::flag::Flag;
use crate::shell::logging::Throttle;
use crate::shell::reactor;

/// Between two attempts at a place that cannot be had.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub struct Door<Place, Port> {
    /// Where it has to be. None: nowhere.
    place: RefCell<Option<Place>>,
    /// None: it could not be had there so far.
    port: RefCell<Option<Port>>,
    /// Raised when the place changes.
    moved: Flag,
}

impl<Place: Clone + PartialEq, Port> Door<Place, Port> {
    /// `place`: where it has to be.
    pub fn new(place: Option<Place>) -> Door<Place, Port> {
        Door { place: RefCell::new(place), port: RefCell::new(None), moved: Flag::default() }
    }

    /// It listens there, and does so on if it still has to.
    pub fn had(&self, at: &Place, port: Port) {
        if self.place.borrow().as_ref() == Some(at) {
            *self.port.borrow_mut() = Some(port);
        }
    }

    pub fn port(&self) -> Ref<'_, Option<Port>> {
        self.port.borrow()
    }

    /// It has to be there from now on, and is where it was no longer.
    pub fn move_to(&self, place: Option<Place>) {
        if *self.place.borrow() != place {
            // Before another is bound: both may be one port, on every address and on one of them.
            *self.port.borrow_mut() = None;
            *self.place.borrow_mut() = place;
            self.moved.raise();
        }
    }

    /// Has it where it has to be, for as long as the executor runs.
    pub async fn follow(&self, listen_at: impl AsyncFn(Place) -> Result<Port, String>) {
        let mut failures = Throttle::new();
        loop {
            let place = self.place.borrow().clone().filter(|_| self.port.borrow().is_none());
            let Some(place) = place else {
                self.moved.lowered().await;
                continue;
            };
            match listen_at(place.clone()).await {
                Ok(port) => self.had(&place, port),
                Err(trouble) => {
                    if let Some(left_out) = failures.pass() {
                        error!("{trouble}; trying again{left_out}");
                    }
                    select(pin!(reactor::sleep(RETRY_PAUSE)), pin!(self.moved.lowered())).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::shell::reactor::next_turn;

    #[test]
    fn it_is_where_it_was_told_last_and_nowhere_else() {
        reactor::run_here(async {
            let open = Rc::new(RefCell::new(Vec::new()));
            struct Port(u32, Rc<RefCell<Vec<u32>>>);
            impl Drop for Port {
                fn drop(&mut self) {
                    self.1.borrow_mut().retain(|open| *open != self.0);
                }
            }
            let listen = {
                let open = open.clone();
                move |place: u32| {
                    assert!(!open.borrow().contains(&place), "twice in one place");
                    open.borrow_mut().push(place);
                    Port(place, open.clone())
                }
            };
            let door = Rc::new(Door::new(Some(1)));
            door.had(&7, listen(7));
            assert!(open.borrow().is_empty());
            door.had(&1, listen(1));
            let asked = Rc::new(RefCell::new(Vec::new()));
            let busy = Rc::new(RefCell::new(vec![4]));
            let slow = Rc::new(RefCell::new(Some(3)));
            let _following = reactor::spawn({
                let (door, asked, busy, slow) = (door.clone(), asked.clone(), busy.clone(), slow.clone());
                async move {
                    let listen_at = async |place: u32| {
                        asked.borrow_mut().push(place);
                        while *slow.borrow() == Some(place) {
                            next_turn().await;
                        }
                        if busy.borrow().contains(&place) { Err(format!("{place} is busy")) } else { Ok(listen(place)) }
                    };
                    door.follow(listen_at).await;
                }
            });
            let is_at = async |place| {
                while door.port().as_ref().map(|port| port.0) != place {
                    next_turn().await;
                }
                assert_eq!(*open.borrow(), place.into_iter().collect::<Vec<_>>());
            };
            is_at(Some(1)).await;
            door.move_to(Some(1));
            is_at(Some(1)).await;
            door.move_to(Some(2));
            assert!(open.borrow().is_empty(), "at once");
            is_at(Some(2)).await;
            // It has moved on when the third place has it.
            door.move_to(Some(3));
            while asked.borrow().last() != Some(&3) {
                next_turn().await;
            }
            door.move_to(None);
            slow.take();
            is_at(None).await;
            // A place that is taken is tried again, unless another one is wanted.
            door.move_to(Some(4));
            while asked.borrow().last() != Some(&4) {
                next_turn().await;
            }
            door.move_to(Some(5));
            is_at(Some(5)).await;
            door.move_to(Some(4));
            while asked.borrow().iter().filter(|place| **place == 4).count() < 2 {
                next_turn().await;
            }
            busy.borrow_mut().clear();
            is_at(Some(4)).await;
            assert_eq!(asked.borrow()[..3], [2, 3, 4], "where it was already it was not looked for");
        });
    }
}
