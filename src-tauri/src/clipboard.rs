//! The clipboard, which is opened when something is put there and not before.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use overside_model::{ErrorCode, Problem};
use tokio::sync::oneshot;

type Order = (String, oneshot::Sender<Result<(), arboard::Error>>);

/// Puts texts on the desktop's clipboard.
#[derive(Debug, Default)]
pub struct Clipboard {
    orders: Mutex<Option<Sender<Order>>>,
}

impl Clipboard {
    /// Puts `text` there.
    ///
    /// # Errors
    /// There is no clipboard: what to do instead is to type the text.
    pub async fn put(&self, text: &str) -> Result<(), Problem> {
        let no_clipboard = |reason: String| {
            Problem::new(ErrorCode::RequestRefused, format!("cannot copy: {reason}"), format!("Type it: {text}"))
        };
        let (answer, answered) = oneshot::channel();
        self.order((text.to_owned(), answer)).map_err(|error| no_clipboard(error.to_string()))?;
        match answered.await {
            Ok(result) => result.map_err(|error| no_clipboard(error.to_string())),
            Err(_) => Err(no_clipboard("the clipboard's thread has ended".to_owned())),
        }
    }

    fn order(&self, order: Order) -> std::io::Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.is_none() {
            let (sender, receiver) = channel();
            thread::Builder::new().name("clipboard".to_owned()).spawn(move || keep(&receiver))?;
            *orders = Some(sender);
        }
        if let Some(orders) = orders.as_ref() {
            // An order that is not taken is not answered either, which says it.
            let _ = orders.send(order);
        }
        Ok(())
    }
}

/// Carries out the orders. On some desktops a text is on the clipboard only as long as whoever put it there can be asked.
fn keep(orders: &Receiver<Order>) {
    let mut kept = None;
    for (text, answer) in orders {
        let put = arboard::Clipboard::new().and_then(|mut clipboard| {
            clipboard.set_text(text)?;
            Ok(clipboard)
        });
        // Nobody waits any more while the program ends.
        let _ = answer.send(put.map(|clipboard| kept = Some(clipboard)));
    }
    drop(kept);
}
