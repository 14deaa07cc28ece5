{% materialization enrichment, default %}
  {{ return(dbt_enrich._stage_and_publish()) }}
{% endmaterialization %}
