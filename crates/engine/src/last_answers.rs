//! The last answers to polled questions, for pollers of an environment that is suspended.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use overside_docker_api::LocalAnswer;

/// Questions that are remembered.
const MOST: usize = 64;
/// Bytes of all answers together.
const MOST_BYTES: usize = 8 << 20;

/// Answers by path and query, of one environment.
#[derive(Debug, Default)]
pub(crate) struct LastAnswers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    environment: String,
    answers: HashMap<String, LocalAnswer>,
    /// The oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

impl LastAnswers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keep(&self, environment: &str, question: String, answer: LocalAnswer) {
        let mut inner = self.lock();
        if inner.environment != environment {
            *inner = Inner { environment: environment.to_owned(), ..Inner::default() };
        }
        inner.forget(&question);
        inner.bytes += answer.body.len();
        inner.order.push_back(question.clone());
        inner.answers.insert(question, answer);
        while inner.order.len() > MOST || inner.bytes > MOST_BYTES {
            let Some(oldest) = inner.order.front().cloned() else { break };
            inner.forget(&oldest);
        }
    }

    pub(crate) fn of(&self, environment: &str, question: &str) -> Option<LocalAnswer> {
        let inner = self.lock();
        inner.answers.get(question).filter(|_| inner.environment == environment).cloned()
    }
}

impl Inner {
    fn forget(&mut self, question: &str) {
        if let Some(answer) = self.answers.remove(question) {
            self.bytes -= answer.body.len();
            self.order.retain(|known| known != question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> LocalAnswer {
        LocalAnswer { status: 200, headers: vec![], content_type: "application/json".into(), body: vec![b'x'; bytes] }
    }

    #[test]
    fn the_last_answer_is_given_for_the_same_environment_only() {
        let answers = LastAnswers::default();
        answers.keep("one", "/a?all=1".into(), answer(1));
        answers.keep("one", "/a?all=1".into(), answer(2));
        assert_eq!(answers.of("one", "/a?all=1"), Some(answer(2)));
        assert_eq!((answers.of("one", "/a"), answers.of("two", "/a?all=1")), (None, None));
        answers.keep("two", "/b".into(), answer(1));
        assert_eq!(answers.of("one", "/a?all=1"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let answers = LastAnswers::default();
        for n in 0..1000 {
            answers.keep("one", format!("/{n}"), answer(1 << 20));
        }
        assert_eq!(answers.lock().bytes, MOST_BYTES);
        assert!(answers.of("one", "/999").is_some() && answers.of("one", "/0").is_none());
    }
}
