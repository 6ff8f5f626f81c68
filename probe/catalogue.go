package probe

var catalogue []Cause
