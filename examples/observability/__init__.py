"""Metrics of a cache: a dashboard, alert rules, and an hour of traffic to see them by.

::

    __main__.py      an hour of traffic in some seconds, and a page with the panels of the dashboard
    app.py           the same functions as a web application, with /metrics, for a Prometheus and a Grafana of your own
    shop.py          the functions, and the source that they ask
    hour.py          the traffic, and the things that go wrong in it
    promql.py        as much of Prometheus as the page needs
    page.py          the page
    dashboard.json   for Grafana
    alerts.yml       for Prometheus
    prometheus.yml   tells a Prometheus where the application is
"""
