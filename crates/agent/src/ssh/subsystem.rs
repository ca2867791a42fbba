//! The subsystem `overside`: requests to the agent itself, one line of JSON each.

use std::sync::Arc;

use overside_model::{
    ErrorCode, Problem,
    agent::{MAX_LINE, Message, Operation, Request},
};
use russh::{Channel, ChannelMsg, ChannelWriteHalf, server::Msg};

use crate::serve::Environment;

/// Serves one channel until the client closes it.
pub(super) async fn serve(channel: Channel<Msg>, environment: Arc<Environment>) {
    let (mut reader, writer) = channel.split();
    let requests = async {
        let mut lines = Lines::default();
        while let Some(message) = reader.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let Ok(complete) = lines.push(&data) else {
                        tracing::warn!("a client sent a line that is too long");
                        return;
                    };
                    for line in complete {
                        if send(&writer, &answer(&line, &environment).await).await.is_err() {
                            return;
                        }
                    }
                }
                ChannelMsg::Eof | ChannelMsg::Close => return,
                _ => {}
            }
        }
    };
    let mut taken_over = environment.taken_over();
    let handing_over = async {
        // What was announced before belonged to others.
        if taken_over.changed().await.is_ok() {
            let computer = taken_over.borrow().clone().unwrap_or_default();
            let _ = send(&writer, &Message::TakenOver { computer }).await;
        }
        // The connection is cut soon.
        std::future::pending::<()>().await;
    };
    let announcement = async {
        let mut ended = environment.ended();
        let detail = match ended.wait_for(Option::is_some).await {
            Ok(detail) => detail.clone().unwrap_or_default(),
            Err(_) => return,
        };
        let _ = send(&writer, &Message::EngineEnded { detail }).await;
        // The channel stays for what else the client asks.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = requests => {}
        () = announcement => {}
        () = handing_over => {}
    }
    let _ = writer.eof().await;
    let _ = writer.close().await;
}

async fn send(writer: &ChannelWriteHalf<Msg>, message: &Message) -> Result<(), russh::Error> {
    let mut line = serde_json::to_vec(message).map_err(|_| russh::Error::Inconsistent)?;
    line.push(b'\n');
    writer.data_bytes(line).await
}

async fn answer(line: &[u8], environment: &Environment) -> Message {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            // A newer client may ask what this agent does not know; it gets an answer to its own request.
            let id = serde_json::from_slice::<serde_json::Value>(line).ok().and_then(|value| value["id"].as_u64());
            let problem = Problem::new(
                ErrorCode::RequestRefused,
                format!("the agent does not understand the request: {error}"),
                "",
            );
            return Message::Failed { id: id.unwrap_or(0), problem };
        }
    };
    let id = request.id;
    let result = match request.operation {
        Operation::Ping => Ok(()),
        Operation::Freeze => environment.freeze().await,
        Operation::Thaw => environment.thaw().await,
        Operation::Lease(terms) => {
            environment.set_terms(terms);
            Ok(())
        }
        Operation::Ports(laptop) => environment.set_laptop_ports(laptop).await,
        Operation::Delete => environment.delete().await,
    };
    match result {
        Ok(()) => Message::Done { id },
        Err(problem) => Message::Failed { id, problem },
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut complete = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                complete.push(std::mem::take(&mut self.0));
            } else if self.0.len() < MAX_LINE {
                self.0.push(*byte);
            } else {
                return Err(TooLong);
            }
        }
        complete.retain(|line| !line.is_empty());
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_any_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"{\"id\""), Ok(Vec::new()));
        assert_eq!(lines.push(b":1}\n\n{}\n{"), Ok(vec![b"{\"id\":1}".to_vec(), b"{}".to_vec()]));
        assert_eq!(lines.push(b"}\n"), Ok(vec![b"{}".to_vec()]));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; MAX_LINE]), Ok(Vec::new()));
        assert_eq!(lines.push(b"x"), Err(TooLong));
    }
}
