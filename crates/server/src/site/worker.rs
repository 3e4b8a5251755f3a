//! Sites as one worker serves them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use sluicegate_http::{
    Endpoints, Failure, Handler, Normal, PathError, Request, RequestHead, Response, normalise,
};

use super::{Action, Route, Site, Sites, routes};
use crate::files::{Cache, Files, Place};
use crate::log::tell;

/// The handler of one worker: the sites, and what it keeps of their files.
#[derive(Debug)]
pub(crate) struct Worker {
    sites: Arc<Sites>,
    /// Shared with the worker that took this one's place at a reload.
    cache: Rc<RefCell<Cache>>,
    room: RefCell<Room>,
}

/// Memory for what is not in normal form as it comes.
#[derive(Debug, Default)]
struct Room {
    path: Vec<u8>,
    name: Vec<u8>,
}

impl Worker {
    pub(super) fn new(sites: Arc<Sites>) -> Self {
        let cache = Rc::new(RefCell::new(Cache::new(sites.budget, &sites.counters)));
        Worker { sites, cache, room: RefCell::default() }
    }

    /// The worker that takes the place of this one, with `sites`: what is kept
    /// of files that are still served is shared by both.
    pub(crate) fn renewed(&self, sites: &Arc<Sites>) -> Self {
        self.cache.borrow_mut().keep(|number| sites.numbers.contains(&number));
        let (sites, cache) = (Arc::clone(sites), Rc::clone(&self.cache));
        Worker { sites, cache, room: RefCell::default() }
    }

    fn answer(&self, head: &RequestHead, endpoints: &Endpoints) -> Response {
        let mut room = self.room.borrow_mut();
        let Room { path, name } = &mut *room;
        let site = self.sites.hosts.find(|| head.host_name(), endpoints.local, name);
        let Some(site) = site.and_then(|site| self.sites.sites.get(site)) else {
            return Response::prepared(Arc::clone(&self.sites.nobody));
        };
        let path = normalise(head.path(), path);
        let Some(route) = site.route(path.as_ref().ok()) else {
            return Response::status_page(path.map_or_else(PathError::status, |_| 404));
        };
        let mut response = self.act(route, path, head, endpoints);
        if !route.rules.is_empty() {
            response.apply(&route.rules);
        }
        response
    }

    #[inline]
    fn act(
        &self,
        route: &Route,
        path: Result<Normal<'_>, PathError>,
        head: &RequestHead,
        endpoints: &Endpoints,
    ) -> Response {
        if let Some(access) = &route.access {
            let client = endpoints.peer.map(|peer| peer.ip());
            if !access.allows(client) {
                return self.refuse_at(route, 403);
            }
        }
        match &route.action {
            Action::Files { directory, strip } => {
                let files = Files { directory, cache: &self.cache };
                let place = path
                    .map(|asked| Place { asked, beneath: routes::strip(asked.as_bytes(), strip) });
                files.answer(place, head)
            }
            Action::Redirect(redirect) => match path {
                Ok(path) => redirect.respond(&path, head),
                Err(error) => Response::status_page(error.status()),
            },
            action => action.fixed().unwrap_or_else(|| Response::status_page(500)),
        }
    }

    /// A page with `status`, the route's own where it has one.
    fn refuse_at(&self, route: &Route, status: u16) -> Response {
        match &route.action {
            Action::Files { directory, .. } => {
                Files { directory, cache: &self.cache }.refuse(status)
            }
            _ => Response::status_page(status),
        }
    }
}

impl Site {
    /// The route of a path; of one without a normal form that of everything.
    fn route(&self, path: Option<&Normal<'_>>) -> Option<&Route> {
        let number = match path {
            Some(path) => self.paths.find(path.as_bytes(), path.ends_with_slash()),
            None => self.paths.everything(),
        };
        self.routes.get(number?)
    }
}

impl Handler for Worker {
    async fn handle(&self, request: &mut Request) -> Response {
        self.answer(&request.head, &request.endpoints)
    }

    fn refuse(&self, status: u16) -> Response {
        // Nobody can say whose request it was, unless there is only one site.
        let route = match &*self.sites.sites {
            [site] => site.route(None),
            _ => None,
        };
        let Some(route) = route else {
            return Response::status_page(status);
        };
        let mut response = self.refuse_at(route, status);
        response.apply(&route.rules);
        response
    }

    fn tend(&self) {
        self.cache.borrow_mut().sweep();
    }

    fn failed(&self, failure: &Failure) {
        // What clients and networks do wrong is daily business; a file that
        // was changed or could not be read is for the operator.
        match failure {
            Failure::Send(sluicegate::SendError::Connection(_))
            | Failure::Offence(_)
            | Failure::Unread
            | Failure::Gone
            | Failure::Receive(_) => {}
            ours => tell(format_args!("a response was cut: {ours}")),
        }
    }
}
