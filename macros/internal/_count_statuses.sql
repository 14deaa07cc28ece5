{% macro _count_statuses(relation) %}
  {% call statement('statuses', fetch_result=true) -%}
    select enrichment_status, count(*) from {{ relation }} group by 1
  {%- endcall %}
  {{ return(load_result('statuses').data) }}
{% endmacro %}
