//! Trials that one test hands on to the next.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::thread;

use clinigate::compile::image::Image;
use clinigate::dataplane::trial::Trial;

/// Trials that tests are done with, of the image beside each: the kernel takes its time to verify one, and most
/// tests want the same policy.
static KEPT: Mutex<Vec<(Image, Trial)>> = Mutex::new(Vec::new());
/// Of these at most.
const KEPT_MOST: usize = 8;

/// A trial that is kept for the next test, unless its policy was changed or its test failed.
pub(crate) struct Lent {
    trial: Option<Trial>,
    /// What it runs, as long as that is what it was lent for.
    image: Option<Image>,
}

impl Lent {
    pub(crate) fn new(image: &Image, interfaces: &BTreeMap<String, u32>) -> Self {
        let found = {
            let mut kept = KEPT.lock().unwrap();
            let index = kept.iter().position(|(known, _)| known == image);
            index.map(|index| kept.remove(index).1)
        };
        let trial = match found {
            Some(mut trial) => {
                trial.forget().unwrap();
                trial
            }
            None => Trial::new(image, interfaces).unwrap(),
        };
        Self { trial: Some(trial), image: Some(image.clone()) }
    }

    pub(crate) fn swap(&mut self, image: &Image) {
        self.image = None;
        self.deref_mut().swap(image).unwrap();
    }
}

impl From<Trial> for Lent {
    /// One that is nobody else's.
    fn from(trial: Trial) -> Self {
        Self { trial: Some(trial), image: None }
    }
}

impl Deref for Lent {
    type Target = Trial;

    fn deref(&self) -> &Trial {
        self.trial.as_ref().expect("it is taken out at the end alone")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Trial {
        self.trial.as_mut().expect("it is taken out at the end alone")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(trial), Some(image), false) = (self.trial.take(), self.image.take(), thread::panicking())
        else {
            return;
        };
        if let Ok(mut kept) = KEPT.lock() {
            kept.push((image, trial));
            if kept.len() > KEPT_MOST {
                kept.remove(0);
            }
        }
    }
}
