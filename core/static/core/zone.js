// Tell the server the reader's time zone, so that it shows and reads instants by his clock.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  if (zone) {
    document.cookie = `time_zone=${zone}; Path=/; Max-Age=31536000; SameSite=Strict${secure}`;
  }
})();
