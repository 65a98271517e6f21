package main

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"rollbook/bus"
	"rollbook/engine/session"
)

// What spans and their attributes are called stands here and nowhere else. The names are those of OpenTelemetry's
// semantic conventions where it has some: messaging (in development still, hence the version in the import) and HTTP.
//
// No attribute comes from a client, but for the method of a request, which is one of a list: no path, no address, no
// name. What a client sends beside its trace's number can be a password in the wrong place.

// traceScope names who makes the spans.
const traceScope = "rollbook"

// The operations on the bus, which begin the names of spans.
const (
	operationSubmit = "submit" // a pod sends a command, and awaits its outcome
	operationDecide = "decide" // a writer makes and stores a page
	operationApply  = "apply"  // a view takes a page in
	nameAwait       = "await page"
)

// The attributes of ours.
const (
	attributeVenue   = attribute.Key("rollbook.venue")
	attributeRoute   = attribute.Key("rollbook.route")   // the class of a path
	attributeVerb    = attribute.Key("rollbook.verb")    // of a command
	attributeOutcome = attribute.Key("rollbook.outcome") // accepted, the code of a refusal, or unknown
	attributePage    = attribute.Key("rollbook.page")    // a place in a book
	attributeEvents  = attribute.Key("rollbook.events")  // how many a page has
)

// messagingSystem is said of every span on the bus.
var messagingSystem = semconv.MessagingSystemKey.String("nats")

// spanName is an operation and what it is done to, in one of a few forms.
func spanName(operation, destination string) string { return operation + " " + destination }

// requestName is the name of a request's span.
func requestName(method, venue, route string) string { return method + " " + venue + " " + route }

// requestMethod is the method of a request if it is one that there is (the registry's GET, POST and so on).
func requestMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return method
	}
	return "_OTHER"
}

// requestAttributes are those of a request.
func requestAttributes(method, venue, route string) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(method), attributeVenue.String(venue), attributeRoute.String(route)}
}

func statusAttribute(code int) attribute.KeyValue { return semconv.HTTPResponseStatusCode(code) }

// sendAttributes are those of a command that is sent.
func sendAttributes(verb session.Verb, p bus.Partition) []attribute.KeyValue {
	return []attribute.KeyValue{messagingSystem, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName(operationSubmit),
		semconv.MessagingDestinationName(bus.StreamCommands), semconv.MessagingDestinationPartitionID(p.String()), attributeVerb.String(string(verb))}
}

// decideAttributes are those of so many commands that are decided together.
func decideAttributes(p bus.Partition, commands int) []attribute.KeyValue {
	return []attribute.KeyValue{messagingSystem, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName(operationDecide),
		semconv.MessagingDestinationName(bus.StreamCommands), semconv.MessagingDestinationPartitionID(p.String()),
		semconv.MessagingBatchMessageCount(commands)}
}

// applyAttributes are those of a page that a view takes in.
func applyAttributes(at bus.Position) []attribute.KeyValue {
	return []attribute.KeyValue{messagingSystem, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName(operationApply),
		semconv.MessagingDestinationName(bus.BookStream(at.Partition)), semconv.MessagingDestinationPartitionID(at.Partition.String()),
		attributePage.Int64(int64(at.Page))}
}
