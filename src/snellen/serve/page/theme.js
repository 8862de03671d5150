// Before anything is drawn: the theme that was chosen here, else that of the system.
const chosen = localStorage.getItem("snellen-theme");
if (chosen) document.documentElement.dataset.theme = chosen;
