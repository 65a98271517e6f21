package zenith

import (
	"context"
	"encoding/json"
	"slices"

	"rollbook/adapters"
)

// key names a topic of a controller.
type key struct{ controller, topic string }

// answer is what a topic says to a request.
type answer struct {
	code    string          // an error; empty: none
	topic   string          // of the reply; empty: the request's
	data    json.RawMessage // nil: the topic has no result
	renewed bool            // the client's authority is another, or was renewed

	outcome adapters.Outcome // for the metrics; empty: what code says
}

// topic is how a topic is served.
type topic struct {
	answer   func(ctx context.Context, s *socket, r request) answer // to a Publish; nil: subscriptions alone
	announce func(s *socket) json.RawMessage                        // to who subscribes; nil, or null: nothing yet
	needs    bool                                                   // data
	silent   bool                                                   // there is no result
	login    bool                                                   // the result goes to subscribers of Identify too
	class    adapters.CallClass                                     // of a publication, for the metrics
}

// topics are all that are served. All can be subscribed to, for the venue sends the result of an action without a
// TransactionID to who subscribes to its topic.
var topics = map[key]topic{
	{auth, "AuthCode"}:         {class: "login", answer: authCode, needs: true, login: true},
	{auth, "AuthOwner"}:        {class: "login", answer: authOwner, needs: true, login: true},
	{auth, "AuthToken"}:        {class: "refresh", answer: authToken, needs: true, login: true},
	{auth, "QueryIdentify"}:    {class: "identify", answer: queryIdentify},
	identify:                   {announce: announceIdentity},
	serverInfo:                 {announce: announceServer},
	{auth, "Configure"}:        {class: "configure", answer: configure, needs: true, silent: true},
	{zenith, "Configure"}:      {class: "configure", answer: configure, needs: true, silent: true},
	{auth, "QueryConfigure"}:   {class: "configure", answer: queryConfigure},
	{zenith, "QueryConfigure"}: {class: "configure", answer: queryConfigure},
}

var (
	identify   = key{auth, "Identify"}
	serverInfo = key{zenith, "ServerInfo"}
)

// venueControllers are those that the venue has and this service has not.
var venueControllers = []string{"Channel", "Fragments", "Market", "News", "Notify", "Trading", "Watchlist"}

// unserved is why there is no such topic.
func (s *socket) unserved(r request) string {
	switch {
	case r.topic == "", r.controller == auth, r.controller == zenith:
		return noTopic
	case !s.authenticated() && slices.Contains(venueControllers, r.controller):
		return noAccess
	}
	return noController + " " + r.controller
}

// respond gives the messages that answer a request, in order. A request that made no sense has its code already. Its
// caller holds mu.
func (s *socket) respond(ctx context.Context, r request, code string) []envelope {
	if code != "" {
		return r.failed(code)
	}
	switch r.action {
	case publish:
		return s.publish(ctx, r)
	case subscribe:
		return s.subscribe(r)
	case unsubscribe:
		return s.unsubscribe(r)
	case cancel, failure:
		return nil // messages are answered in order, so nothing is pending that could be cancelled
	}
	return r.failed(noTopic)
}

// failed is the error, and what the venue sends behind it: a result without data, for which its client waits; to a
// subscription the confirmation that it failed, if it was asked for. The controller Auth sends the error alone.
func (r *request) failed(code string) []envelope {
	list := []envelope{{Controller: r.controller, Topic: r.topic, Action: failure, TransactionID: r.transaction,
		Data: adapters.RenderJSON(code), outcome: codeOutcome(code)}}
	switch {
	case r.action == subscribe && r.confirm:
		list = append(list, envelope{Controller: r.controller, Topic: r.topic, Action: subscribe, Data: adapters.RenderJSON(code)})
	case r.action == publish && r.transaction != nil && r.controller != auth && r.topic != "":
		list = append(list, envelope{Controller: r.controller, Topic: r.topic, TransactionID: r.transaction, Data: null})
	}
	return list
}

// publish calls an action.
func (s *socket) publish(ctx context.Context, r request) []envelope {
	at := key{r.controller, r.topic}
	t, served := topics[at]
	switch {
	case !served || t.answer == nil:
		return r.failed(s.unserved(r))
	case t.needs && r.data == nil:
		return r.failed(noData)
	case r.transaction == nil && !t.silent && s.subs[at] == 0 && !(t.login && s.subs[identify] > 0):
		return r.failed(noResult) // before a session is opened that nobody would be told of
	}
	ctx, cancel := s.bounded(ctx, r.controller)
	defer cancel()
	a := t.answer(ctx, s, r)
	if a.code != "" {
		list := r.failed(a.code)
		if a.outcome != "" {
			list[0].outcome = a.outcome
		}
		return list
	}
	if a.topic == "" {
		a.topic = r.topic
	}
	var list []envelope
	told := false // subscribers of Identify
	switch {
	case r.transaction != nil:
		list = append(list, envelope{Controller: r.controller, Topic: a.topic, TransactionID: r.transaction, Data: a.data})
	case t.silent:
	case s.subs[at] > 0:
		list = append(list, envelope{Controller: r.controller, Topic: r.topic, Data: a.data})
	default:
		told = true
		list = append(list, envelope{Controller: auth, Topic: identify.topic, Data: a.data})
	}
	if len(list) > 0 {
		list[0].outcome = a.outcome
	}
	if a.renewed && !told && s.subs[identify] > 0 {
		list = append(list, envelope{Controller: auth, Topic: identify.topic, Data: a.data})
	}
	return list
}
