package bundle

// PointOften has a point of progress after every other message, for tests of what goes on from one.
func PointOften() (back func()) {
	old := pointFiles
	pointFiles = 8
	return func() { pointFiles = old }
}
