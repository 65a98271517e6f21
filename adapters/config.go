package adapters

// SetDefault gives a field that has its zero value another.
func SetDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}
