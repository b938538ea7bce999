"""`gpumodels-tui --follow`: a JSON line for each event, for programs and logs. Knows no Textual."""
