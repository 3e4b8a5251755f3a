//! Sites as one worker serves them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use sluicegate_http::{
    Endpoints, Failure, Handler, Normal, PathError, Request, RequestHead, Response, normal_as_sent,
    normalise, normalise_onward,
};

use super::{Action, Route, Site, Sites, routes};
use crate::files::{Cache, Files, Place};
use crate::gateway::Upstreams;
use crate::log::tell;
use crate::observe::RelayStats;
use crate::proxy::{self, Proxy};

/// The handler of one worker: the sites, and what it keeps of their files.
#[derive(Debug)]
pub(crate) struct Worker {
    sites: Arc<Sites>,
    /// Shared with the worker that took this one's place at a reload.
    cache: Rc<RefCell<Cache>>,
    /// Shared as well.
    proxies: proxy::Shared,
    room: RefCell<Room>,
}

/// Memory for what is not in normal form as it comes.
#[derive(Debug, Default)]
struct Room {
    path: Vec<u8>,
    /// For paths that no file can have, but an upstream can.
    onward: Vec<u8>,
    name: Vec<u8>,
}

/// What an upstream is to be asked for.
#[derive(Clone, Copy)]
struct Later<'a> {
    site: &'a Site,
    route: &'a Route,
    proxy: &'a Proxy,
    /// Where it was sent in its normal form.
    path: Option<Normal<'a>>,
}

impl Worker {
    pub(super) fn new(sites: Arc<Sites>, upstreams: Upstreams, relays: Arc<RelayStats>) -> Self {
        let cache = Rc::new(RefCell::new(Cache::new(sites.budget, &sites.counters)));
        let proxies = proxy::Shared::new(upstreams, Arc::clone(&sites.spools), relays);
        Worker { sites, cache, proxies, room: RefCell::default() }
    }

    /// The worker that takes the place of this one, with `sites`: what is kept
    /// of files that are still served is shared by both.
    pub(crate) fn renewed(&self, sites: &Arc<Sites>) -> Self {
        self.cache.borrow_mut().keep(|number| sites.numbers.contains(&number));
        let (sites, cache) = (Arc::clone(sites), Rc::clone(&self.cache));
        let proxies = self.proxies.clone();
        Worker { sites, cache, proxies, room: RefCell::default() }
    }

    /// Answers a request, unless an upstream is to be asked.
    fn answer<'a>(
        &'a self,
        head: &'a RequestHead,
        endpoints: &Endpoints,
    ) -> Result<Response, Later<'a>> {
        let mut room = self.room.borrow_mut();
        let Room { path, onward, name } = &mut *room;
        let site = self.sites.hosts.find(|| head.host_name(), endpoints.came_in_at(), name);
        let Some(site) = site.and_then(|site| self.sites.sites.get(site)) else {
            return Ok(Response::prepared(Arc::clone(&self.sites.nobody)));
        };
        let sent = normal_as_sent(head.path());
        let path = sent.map_or_else(|| normalise(head.path(), path), Ok);
        let path = path.or_else(|error| site.passed_on(head.path(), error, onward));
        let route = site.route(path.as_ref().ok()).filter(|route| !route.internal);
        let Some(route) = route else {
            return Ok(Response::status_page(path.map_or_else(PathError::status, |_| 404)));
        };
        if let (Action::Proxy(proxy), true) = (&route.action, path.is_ok())
            && self.may_ask(route, endpoints)
        {
            return Err(Later { site, route, proxy, path: sent });
        }
        let mut response = self.act(route, path, head, endpoints);
        if !route.rules.is_empty() {
            response.apply(&route.rules);
        }
        Ok(response)
    }

    /// Answers a request: at once, or from an upstream, or with the file that it names.
    async fn respond(&self, request: &mut Request) -> Response {
        let Request { head, body, endpoints, note, interim, is_observed } = request;
        let Later { site, route, proxy, path } = match self.answer(head, endpoints) {
            Ok(response) => return response,
            Err(later) => later,
        };
        // Room of its own, for as long as the upstream takes; few paths need any.
        let (mut room, mut onward) = (Vec::new(), Vec::new());
        let path = path.map_or_else(|| normalise(head.path(), &mut room), Ok);
        let path = path.or_else(|error| site.passed_on(head.path(), error, &mut onward));
        match path {
            Ok(path) => {
                let mut asked = proxy::Asked { head, path, endpoints, body, interim };
                let place = proxy::Place { note, is_observed: *is_observed };
                match proxy.answer(&self.proxies, &mut asked, place).await {
                    proxy::Outcome::Response(mut response) => {
                        response.apply(&route.rules);
                        response
                    }
                    proxy::Outcome::File(elsewhere) => {
                        self.send_file(site, &elsewhere, head, endpoints)
                    }
                }
            }
            // It had one a moment ago.
            Err(error) => Response::status_page(error.status()),
        }
    }

    /// The file of the same site that an upstream names (`X-Accel-Redirect`).
    fn send_file(
        &self,
        site: &Site,
        elsewhere: &proxy::Elsewhere,
        head: &RequestHead,
        endpoints: &Endpoints,
    ) -> Response {
        let mut room = Vec::new();
        let Ok(path) = normalise(elsewhere.path(), &mut room) else {
            return elsewhere.fail();
        };
        // Only files: an upstream that leads to an upstream could lead in circles.
        let Some(route) = site.route(Some(&path)) else { return elsewhere.fail() };
        let Action::Files { directory, strip } = &route.action else { return elsewhere.fail() };
        if !self.may_ask(route, endpoints) {
            return self.refuse_at(route, 403);
        }
        let files = Files { directory, cache: &self.cache };
        let place = Place { asked: path, beneath: routes::strip(path.as_bytes(), strip) };
        let given = files.give(&place, head);
        // A directory: where it leads to is nothing that clients can ask for.
        if given.status() == 301 {
            return elsewhere.fail();
        }
        let mut response = elsewhere.complete(given);
        response.apply(&route.rules);
        response
    }

    #[inline]
    fn may_ask(&self, route: &Route, endpoints: &Endpoints) -> bool {
        let client = endpoints.peer.map(|peer| peer.ip());
        route.access.as_ref().is_none_or(|access| access.allows(client))
    }

    #[inline]
    fn act(
        &self,
        route: &Route,
        path: Result<Normal<'_>, PathError>,
        head: &RequestHead,
        endpoints: &Endpoints,
    ) -> Response {
        if !self.may_ask(route, endpoints) {
            return self.refuse_at(route, 403);
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
            // What has a normal form is answered before this.
            Action::Proxy(_) => Response::status_page(path.map_or_else(PathError::status, |_| 500)),
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
    /// A path that no file can have, if it is an upstream's to know, in either reading:
    /// `%2F` is data to some of them and a slash to others, and an access rule must not be
    /// passed by between the two.
    fn passed_on<'a>(
        &self,
        raw: &'a str,
        error: PathError,
        out: &'a mut Vec<u8>,
    ) -> Result<Normal<'a>, PathError> {
        use PathError::{EncodedSlash, SegmentTooLong, TooLong};
        if !matches!(error, EncodedSlash | SegmentTooLong | TooLong) {
            return Err(error);
        }
        let path = normalise_onward(raw, out).map_err(|_| error)?;
        let route = self.route(Some(&path)).ok_or(error)?;
        let mut other = Vec::new();
        let decoded = raw.replace("%2F", "/").replace("%2f", "/");
        let decoded = normalise_onward(&decoded, &mut other).map_err(|_| error)?;
        let is_same = self.route(Some(&decoded)).is_some_and(|other| std::ptr::eq(route, other));
        let is_upstreams = matches!(route.action, Action::Proxy(_));
        if is_same && is_upstreams { Ok(path) } else { Err(error) }
    }

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
        self.respond(request).await
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
        self.proxies.upstreams.tend();
    }

    fn failed(&self, failure: &Failure) {
        // What clients and networks do wrong is daily business; a file that
        // was changed or could not be read is for the operator.
        match failure {
            Failure::Send(sluicegate::SendError::Connection(_))
            | Failure::Offence(_)
            | Failure::Upload(_)
            | Failure::Unread
            | Failure::Gone
            | Failure::Receive(_)
            | Failure::Relay(_) => {}
            ours => tell(format_args!("a response was cut: {ours}")),
        }
    }
}
