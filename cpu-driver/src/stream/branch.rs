//! A conditional node's turn: its value says which body's tasks are submitted, and the node is over when
//! they are; a loop looks at the value again then.

use super::task::{Task, Work};
use super::{StepWork, executor};
use paravane_protocol::cuda_types::{CU_GRAPH_COND_TYPE_IF, CU_GRAPH_COND_TYPE_WHILE, CUgraphConditionalNodeType};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a body's works, each with the ones that it comes behind.
pub type Body = Box<dyn Fn() -> Vec<(Work, Vec<usize>)> + Send + Sync>;

pub struct Branch {
    pub value: Arc<AtomicU32>,
    pub kind: CUgraphConditionalNodeType,
    pub bodies: Vec<Body>,
}

impl Branch {
    /// The body that runs now.
    fn chosen(&self) -> Option<&Body> {
        let value = self.value.load(Ordering::Acquire);
        let number = match self.kind {
            CU_GRAPH_COND_TYPE_IF => usize::from(value == 0),
            CU_GRAPH_COND_TYPE_WHILE if value == 0 => return None,
            CU_GRAPH_COND_TYPE_WHILE => 0,
            _ => usize::try_from(value).unwrap_or(usize::MAX),
        };
        self.bodies.get(number)
    }
}

/// The task's turn has come, for the first time or again.
pub(super) fn run(task: &Arc<Task>) {
    let Work::Branch(branch) = &task.work else { return };
    let failed = task.stream.context.failure().is_some();
    let Some(body) = branch.chosen().filter(|_| !failed) else {
        executor::complete(task);
        return;
    };
    let (works, before): (Vec<Work>, Vec<Vec<usize>>) = body().into_iter().unzip();
    let steps = works.into_iter().zip(&before).map(|(work, before)| StepWork { work, before, also: None, event: None });
    task.stream.submit_steps(steps, Work::Then(Arc::clone(task)));
}

/// A body's tasks are over.
pub(super) fn is_over(task: &Arc<Task>) {
    let Work::Branch(branch) = &task.work else { return };
    if branch.kind == CU_GRAPH_COND_TYPE_WHILE {
        executor::again(task);
    } else {
        executor::complete(task);
    }
}
