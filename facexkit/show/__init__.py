"""What people see: figures, the face map, reports, widgets."""
