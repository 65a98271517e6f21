package session

// EventTypes are the types of all events, in the order of the numbers by which they are stored, from 1.
func EventTypes() []EventType {
	var types []EventType
	for kind := uint64(1); ; kind++ {
		e := newEvent(kind)
		if e == nil {
			return types
		}
		types = append(types, e.Type())
	}
}

// EmptyEvent is an event of a type without anything in it; nil when there is no such type.
func EmptyEvent(t EventType) Event {
	for i, known := range EventTypes() {
		if known == t {
			return newEvent(uint64(i + 1))
		}
	}
	return nil
}
